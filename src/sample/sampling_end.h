/* sampling_end.h - what the last process of a set does: the overview, the end of the npz file, the manifest. */
#ifndef DDPM_SAMPLING_END_H
#define DDPM_SAMPLING_END_H
#include "sample/manifest.h"
#include "sample/picture_format.h"
#include "sample/sampling_job.h"
#include "sample/unit_journal.h"

enum { OVERVIEW_MAX = 256 }; /* most pictures on grid.png, which shows the first ones */

/* If all units are complete and no process works on one, end the set; sets t->complete and t->tiles. */
DDPM_MUST_CHECK ddpm_status sampling_end(picture_store *s, const folder_lock *lock, int columns, sampling_tally *t,
                                         err *e);

#endif
