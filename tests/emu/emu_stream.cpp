/* Streams, events and graphs of cuda_rt.h.
 *
 * A stream is a queue of items: work, events to record, waits.  An item runs immediately or, in the late timings, when
 * another stream or the host waits for it.  While a stream is captured, its work becomes nodes of the capture instead,
 * each with the nodes that it depends on. */
#include "emu/emu_runtime.h"
#include "loop_next.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace emu
{
namespace
{
struct stream;

struct work {
    std::string what;
    double us;
    std::function<void()> run;
};

/* The state of a recorded event: a position in a stream, and the time when the stream reached it. */
struct mark {
    std::shared_ptr<stream> where;
    uint64_t place;
    double us = 0;
};

struct node {
    work w;
    std::vector<int> after; /* the nodes that this one depends on */
    bool side;              /* not of the stream where the capture began */
};

struct recording_state {
    stream *origin;
    std::vector<node> nodes;
    std::vector<std::shared_ptr<stream>> members;
    std::string spoiled;                 /* why the capture is invalid */
    int *count = nullptr;                /* a loop's number of iterations */
    std::unique_ptr<unsigned> condition; /* a loop's condition */
};

struct stream {
    int device = rt_use(-1);
    std::deque<std::function<void()>> items;
    uint64_t put = 0, done = 0;
    bool side = false;
    std::shared_ptr<recording_state> to; /* the capture; NULL: the stream is not captured */
    std::vector<int> last;               /* nodes of `to` that the next node depends on */
};

struct event {
    bool timed;
    std::shared_ptr<mark> at; /* NULL: never recorded, or recorded in a capture */
    std::weak_ptr<recording_state> in;
    bool in_recording = false;
    std::vector<int> last;
};

std::map<void *, std::shared_ptr<stream>> streams;
std::map<void *, std::unique_ptr<event>> events;
std::vector<std::shared_ptr<recording_state>> recordings;
int graphs_alive;
emu_timing timing;
long waits; /* of the host, for work that had not run yet */
double clock_us;
bool only_counted;
std::map<std::string, int> counts; /* runs of work by name, while it is only counted */

/* ---- eager work ---- */

void run_work(const work &w)
{
    if (last_error()[0]) return;
    clock_us += w.us;
    if (only_counted) {
        counts[w.what]++;
        return;
    }
    open_memory();
    w.run();
    close_memory();
}

bool postponed(const stream &s) { return timing == EMU_ALL_LATE || (timing == EMU_SIDE_LATE && s.side); }

void run_until(stream &s, uint64_t place)
{
    while (s.done < place) {
        const std::function<void()> item = std::move(s.items.front());
        s.items.pop_front();
        item();
        s.done++;
    }
}

/* Returns the item's position in the stream. */
uint64_t put(stream &s, std::function<void()> item)
{
    s.items.push_back(std::move(item));
    const uint64_t place = ++s.put;
    if (!postponed(s)) run_until(s, place);
    return place;
}

void reach(const mark &m) { run_until(*m.where, m.place); }

/* The same for the host. */
void wait_until(stream &s, uint64_t place)
{
    waits += s.done < place;
    run_until(s, place);
}

void wait_for(const mark &m) { wait_until(*m.where, m.place); }

/* ---- captured work ---- */

int record(stream &s, const work &w)
{
    recording_state &r = *s.to;
    r.nodes.push_back({w, s.last, &s != r.origin});
    s.last = {(int)r.nodes.size() - 1};
    return s.last[0];
}

void add_all(std::vector<int> &to, const std::vector<int> &from)
{
    for (int i : from)
        if (std::find(to.begin(), to.end(), i) == to.end()) to.push_back(i);
}

/* Appends node i, after all nodes that it depends on and that are not in the order yet. */
void take_with_dependencies(const std::vector<node> &nodes, int i, std::vector<bool> &taken, std::vector<int> &order)
{
    if (taken[(size_t)i]) return;
    taken[(size_t)i] = true;
    std::vector<int> after = nodes[(size_t)i].after;
    std::sort(after.begin(), after.end());
    for (int before : after) take_with_dependencies(nodes, before, taken, order);
    order.push_back(i);
}

/* The last node that no last node of the origin stream depends on; -1: there is none. */
int unjoined(const recording_state &r)
{
    std::vector<bool> needed(r.nodes.size());
    for (int i : r.origin->last) needed[(size_t)i] = true;
    for (int i = (int)r.nodes.size() - 1; i >= 0; i--) { /* a node's dependencies have smaller indices */
        if (!needed[(size_t)i]) return i;
        for (int before : r.nodes[(size_t)i].after) needed[(size_t)before] = true;
    }
    return -1;
}

std::vector<int> side_late(const std::vector<node> &nodes)
{
    std::vector<bool> taken(nodes.size());
    std::vector<int> order;
    for (const bool side : {false, true})
        for (size_t i = 0; i < nodes.size(); i++)
            if (nodes[i].side == side) take_with_dependencies(nodes, (int)i, taken, order);
    return order;
}

bool ready(const std::vector<node> &nodes, const std::vector<bool> &taken, size_t i)
{
    for (int before : nodes[i].after)
        if (!taken[(size_t)before]) return false;
    return !taken[i];
}

std::vector<int> side_early(const std::vector<node> &nodes)
{
    std::vector<bool> taken(nodes.size());
    std::vector<int> order;
    while (order.size() < nodes.size()) {
        size_t next = nodes.size();
        for (size_t i = 0; i < nodes.size(); i++)
            if (ready(nodes, taken, i) && (next == nodes.size() || (nodes[i].side && !nodes[next].side))) next = i;
        taken[next] = true;
        order.push_back((int)next);
    }
    return order;
}

std::vector<int> order_of(const std::vector<node> &nodes)
{
    if (timing == EMU_SIDE_LATE || timing == EMU_ALL_LATE) return side_late(nodes);
    if (timing == EMU_SIDE_EARLY) return side_early(nodes);
    std::vector<int> order(nodes.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
    return order;
}

void replay(const recording_state &r)
{
    const std::vector<int> order = order_of(r.nodes);
    if (last_error()[0]) return;
    if (r.count && *r.count < 1) return fail("a loop was launched with %d turns to go", *r.count);
    do {
        for (int i : order) run_work(r.nodes[(size_t)i].w);
    } while (r.count && *r.condition && !last_error()[0]);
}

/* ---- handles ---- */

ddpm_status refuse(const char *call, const char *why, err *e) { return err_set(e, DDPM_EBACKEND, "%s: %s", call, why); }

std::shared_ptr<stream> default_stream()
{
    static const std::shared_ptr<stream> s = std::make_shared<stream>();
    return s;
}

/* The stream, or NULL with the reason in e. */
std::shared_ptr<stream> usable(void *handle, const char *call, err *e)
{
    if (!handle) {
        if (recordings.empty()) return default_stream();
        (void)spoil(call, nullptr);
        (void)refuse(call, "operation would make the legacy stream depend on a capturing blocking stream", e);
        return nullptr;
    }
    const auto at = streams.find(handle);
    if (at == streams.end()) {
        (void)refuse(call, "invalid resource handle (no such stream)", e);
        return nullptr;
    }
    if (at->second->device != rt_use(-1)) {
        fail("%s: the stream is of device %d, and device %d is current", call, at->second->device, rt_use(-1));
        (void)refuse(call, "invalid resource handle (a stream of another device)", e);
        return nullptr;
    }
    if (at->second->to && !at->second->to->spoiled.empty()) {
        (void)err_set(e, DDPM_EBACKEND, "%s: operation failed due to a previous error during capture (%s)", call,
                      at->second->to->spoiled.c_str());
        return nullptr;
    }
    return at->second;
}

event *usable_event(void *handle, const char *call, err *e)
{
    const auto at = events.find(handle);
    if (at != events.end()) return at->second.get();
    (void)refuse(call, "invalid resource handle (no such event)", e);
    return nullptr;
}

ddpm_status spoil_one(recording_state &r, const char *call, const char *why, err *e)
{
    if (r.spoiled.empty()) r.spoiled = std::string(call) + ": " + why;
    return refuse(call, why, e);
}

const char *const not_while_recording = "operation not permitted when stream is capturing";
const char *const captured_event = "operation not permitted on an event last recorded in a capturing stream";

void leave_recording(const std::shared_ptr<recording_state> &r)
{
    for (const auto &s : r->members) {
        s->to = nullptr;
        s->last.clear();
    }
    r->members.clear();
    recordings.erase(std::find(recordings.begin(), recordings.end(), r));
}

ddpm_status begin(void *handle, const char *call, int *count, err *e)
{
    const std::shared_ptr<stream> s = usable(handle, call, e);
    if (!s) return DDPM_EBACKEND;
    if (!handle) return refuse(call, "the legacy stream cannot be captured", e);
    if (s->to) return spoil_one(*s->to, call, "the stream is capturing already", e);
    auto r = std::make_shared<recording_state>();
    r->origin = s.get();
    r->members = {s};
    r->count = count;
    if (count) r->condition.reset(new unsigned(1));
    s->to = r;
    recordings.push_back(r);
    return DDPM_OK;
}

/* A wait by a captured stream, or for an event of a capture: the stream joins the capture. */
ddpm_status wait_recorded(const std::shared_ptr<stream> &s, const event &ev, const char *call, err *e)
{
    const std::shared_ptr<recording_state> r = ev.in.lock();
    const bool open = r && std::find(recordings.begin(), recordings.end(), r) != recordings.end();
    if (!ev.in_recording) return spoil_one(*s->to, call, "dependency created on uncaptured work in another stream", e);
    if (!open) return refuse(call, captured_event, e);
    if (s->to && s->to != r) return spoil_one(*s->to, call, "operation would result in a merge of two captures", e);
    if (!r->spoiled.empty()) return refuse(call, "operation failed due to a previous error during capture", e);
    if (!s->to) {
        s->to = r;
        r->members.push_back(s);
    }
    add_all(s->last, ev.last);
    return DDPM_OK;
}

/* CUDA loads the code of a kernel at its first launch, which is not allowed in a capture.  cuda_rt_graph.c launches the
 * kernel of the loop in a relaxed section, where it is. */
std::set<std::string> loaded = {"loop_next_kernel"};

void launch_sink(cudaStream_t handle, const char *what, std::function<void()> run)
{
    err why = {};
    if (recording(handle) && !loaded.count(what)) fail("%s: its first launch is in a capture", what);
    loaded.insert(what);
    if (enqueue(handle, what, 1.0, std::move(run), &why) != DDPM_OK) fail("%s", why.text);
}
const bool connected = (set_sink(launch_sink), true);
} // namespace

bool recording(void *handle)
{
    const auto at = streams.find(handle);
    return at != streams.end() && at->second->to;
}

bool recording_loop(void *handle)
{
    const auto at = streams.find(handle);
    return at != streams.end() && at->second->to && at->second->to->count;
}

bool recording_anywhere() { return !recordings.empty(); }

ddpm_status spoil(const char *call, err *e)
{
    for (const auto &r : recordings) (void)spoil_one(*r, call, not_while_recording, nullptr);
    return refuse(call, not_while_recording, e);
}

ddpm_status enqueue(void *handle, const char *what, double us, std::function<void()> run, err *e)
{
    const std::shared_ptr<stream> s = usable(handle, what, e);
    if (!s) return DDPM_EBACKEND;
    const work w = {what, us, std::move(run)};
    if (s->to)
        record(*s, w);
    else
        put(*s, [w] { run_work(w); });
    return DDPM_OK;
}

void finish_everything()
{
    for (auto &s : streams) run_until(*s.second, s.second->put);
    run_until(*default_stream(), default_stream()->put);
}

void set_timing(emu_timing t)
{
    timing = t;
    waits = 0;
    if (!connected) abort(); /* also makes the linker keep `connected` */
}

long host_waits() { return waits; }
void set_count_only(bool on)
{
    only_counted = on;
    counts.clear();
}

bool counts_only() { return only_counted; }

void count_streams(emu_counts *c)
{
    c->streams = (int)streams.size();
    c->events = (int)events.size();
    c->graphs = graphs_alive;
}
} // namespace emu

using namespace emu;

void emu_load_kernel(const char *name) { loaded.insert(name); }

void emu_counted(void (*each)(void *context, const char *name, int times), void *context)
{
    for (const auto &c : counts) each(context, c.first.c_str(), c.second);
}

struct rt_graph {
    std::shared_ptr<recording_state> recorded;
};

/* ---- streams ---- */

ddpm_status rt_stream_create(bool urgent, void **out, err *e)
{
    *out = nullptr;
    ENTER(e);
    auto s = std::make_shared<stream>();
    *out = s.get();
    streams[*out] = s;
    return DDPM_OK;
}

void rt_stream_destroy(void *handle)
{
    if (!handle) return;
    const auto at = streams.find(handle);
    if (at == streams.end()) return fail("rt_stream_destroy: no such stream");
    if (at->second->to) fail("rt_stream_destroy: the stream is capturing");
    run_until(*at->second, at->second->put);
    streams.erase(at);
}

ddpm_status rt_sync(void *handle, err *e)
{
    ENTER(e);
    const std::shared_ptr<stream> s = usable(handle, __func__, e);
    if (!s) return DDPM_EBACKEND;
    if (s->to) return spoil_one(*s->to, __func__, not_while_recording, e);
    wait_until(*s, s->put);
    return last_error()[0] ? refuse(__func__, last_error(), e) : DDPM_OK;
}

/* ---- events ---- */

ddpm_status rt_event_create(bool timed, void **out, err *e)
{
    *out = nullptr;
    ENTER(e);
    std::unique_ptr<event> ev(new event);
    ev->timed = timed;
    *out = ev.get();
    events[*out] = std::move(ev);
    return DDPM_OK;
}

void rt_event_destroy(void *handle)
{
    if (handle && !events.erase(handle)) fail("rt_event_destroy: no such event");
}

ddpm_status rt_event_record(void *handle, void *on, err *e)
{
    ENTER(e);
    const std::shared_ptr<stream> s = usable(on, __func__, e);
    event *ev = usable_event(handle, __func__, e);
    if (!s || !ev) return DDPM_EBACKEND;
    ev->in_recording = s->to != nullptr;
    ev->in = s->to;
    ev->last = s->last;
    ev->at = nullptr;
    if (s->to) return DDPM_OK;
    auto at = std::make_shared<mark>();
    at->where = s;
    ev->at = at;
    at->place = s->put + 1;
    put(*s, [at] { at->us = clock_us; });
    return DDPM_OK;
}

ddpm_status rt_event_sync(void *handle, err *e)
{
    ENTER(e);
    const event *ev = usable_event(handle, __func__, e);
    if (!ev) return DDPM_EBACKEND;
    if (ev->in_recording) return refuse(__func__, captured_event, e);
    if (ev->at) wait_for(*ev->at);
    return last_error()[0] ? refuse(__func__, last_error(), e) : DDPM_OK;
}

ddpm_status rt_stream_wait(void *handle, void *for_event, err *e)
{
    ENTER(e);
    const std::shared_ptr<stream> s = usable(handle, __func__, e);
    const event *ev = usable_event(for_event, __func__, e);
    if (!s || !ev) return DDPM_EBACKEND;
    if (emu_get_device()->ignores_waits && !s->to && !ev->in_recording) return DDPM_OK;
    if (s->to || ev->in_recording) return wait_recorded(s, *ev, __func__, e);
    const std::shared_ptr<mark> at = ev->at;
    if (!at) return DDPM_OK; /* never recorded: nothing to wait for */
    if (at->where != s && !at->where->side) s->side = true;
    put(*s, [at] { reach(*at); });
    return DDPM_OK;
}

ddpm_status rt_event_ms(void *from, void *to, float *ms, err *e)
{
    ENTER(e);
    const event *a = usable_event(from, __func__, e), *b = usable_event(to, __func__, e);
    if (!a || !b) return DDPM_EBACKEND;
    if (a->in_recording || b->in_recording) return refuse(__func__, captured_event, e);
    if (!a->timed || !b->timed || !a->at || !b->at)
        return refuse(__func__, "invalid resource handle (an event without a time)", e);
    wait_for(*b->at);
    wait_for(*a->at);
    *ms = (float)((b->at->us - a->at->us) / 1000.0);
    return last_error()[0] ? refuse(__func__, last_error(), e) : DDPM_OK;
}

/* ---- graphs ---- */

ddpm_status rt_graph_begin(void *handle, err *e)
{
    ENTER(e);
    return begin(handle, __func__, nullptr, e);
}

ddpm_status rt_loop_begin(void *handle, int *count, err *e)
{
    ENTER(e);
    if (!emu_get_device()->loops) return refuse(__func__, "operation not supported (no WHILE nodes)", e);
    if (!on_device(count, sizeof *count)) return refuse(__func__, "invalid argument: count is not device memory", e);
    return begin(handle, __func__, count, e);
}

static ddpm_status end_loop(void *handle, const recording_state &r, err *e)
{
    const loop_next_args next = {r.count, (graph_condition)(uintptr_t)r.condition.get()};
    return rt_launched(k_loop_next(handle, &next), e);
}

static ddpm_status end(void *handle, const std::shared_ptr<recording_state> &r, const char *call, err *e)
{
    if (!r->spoiled.empty())
        return err_set(e, DDPM_EBACKEND, "%s: operation failed due to a previous error during capture (%s)", call,
                       r->spoiled.c_str());
    if (r->count) TRY(end_loop(handle, *r, e));
    const int left = unjoined(*r);
    if (left >= 0)
        return err_set(e, DDPM_EBACKEND, "%s: capturing stream has unjoined work: %s", call,
                       r->nodes[(size_t)left].w.what.c_str());
    return DDPM_OK;
}

ddpm_status rt_graph_end(void *handle, rt_graph **out, err *e)
{
    const auto at = streams.find(handle);
    const std::shared_ptr<recording_state> r = at == streams.end() ? nullptr : at->second->to;
    if (out) *out = nullptr;
    if (!r || r->origin != at->second.get())
        return refuse(__func__, r ? "the capture began on another stream" : "the stream is not capturing", e);
    ddpm_status st = DDPM_OK;
    if (out) st = enter(__func__, DDPM_EBACKEND, e);
    if (out && st == DDPM_OK) st = end(handle, r, __func__, e);
    leave_recording(r);
    if (!out || st != DDPM_OK) return st;
    *out = new rt_graph{r};
    graphs_alive++;
    return DDPM_OK;
}

ddpm_status rt_graph_launch(rt_graph *graph, void *handle, err *e)
{
    ENTER(e);
    if (recording(handle)) return spoil(__func__, e);
    const std::shared_ptr<recording_state> r = graph->recorded;
    const std::shared_ptr<stream> s = usable(handle, __func__, e);
    if (!s) return DDPM_EBACKEND;
    put(*s, [r] {
        open_memory();
        replay(*r);
        close_memory();
    });
    return DDPM_OK;
}

void rt_graph_destroy(rt_graph *graph)
{
    if (!graph) return;
    graphs_alive--;
    delete graph;
}
