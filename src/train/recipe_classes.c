#include "train/recipe_classes.h"

int recipe_class_count(const ddpm_config *c, int classes)
{
    const int asked = c->model.num_class_embeds;
    if (asked >= 0) return asked;
    return classes > 0 ? classes + (c->train.label_dropout > 0) : 0;
}

void recipe_name_classes(const ddpm_config *c, int classes, network *net)
{
    unet_config *u = &net->unet;
    if (u->class_embed_type != UNET_CLASS_TIMESTEP || u->num_class_embeds > 0) return;
    u->num_class_embeds = recipe_class_count(c, classes);
    if (u->num_class_embeds == 0 && classes > 0) u->num_class_embeds = classes + (c->train.label_dropout > 0);
}

/* What the options alone rule out. */
static ddpm_status check_kind(const ddpm_config *c, const network *net, err *e)
{
    if (net->kind == NETWORK_SIMPLE && c->model.num_class_embeds != 0)
        return err_set(e, DDPM_EINVAL,
                       "model.num_class_embeds=%d: model.kind=simple has no class embedding; set model.kind=unet, or "
                       "model.num_class_embeds=0",
                       c->model.num_class_embeds);
    if (net->unet.class_embed_type == UNET_CLASS_IDENTITY)
        return err_set(
            e, DDPM_EINVAL,
            "class_embed_type identity: the network reads a vector for each image, and the training data has "
            "only labels; use a network with model.class_embed_type=null or timestep");
    return DDPM_OK;
}

/* With model.init_from the number of classes is the folder's. */
static ddpm_status check_folder(const ddpm_config *c, const network *net, image_shape shape, err *e)
{
    const int asked = recipe_class_count(c, shape.classes), there = net->unet.num_class_embeds;
    const bool is_set = c->origin[OPTION_model_num_class_embeds].source != CONFIG_DEFAULT;
    if (!c->model.init_from[0] || !is_set || asked == there) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "%.300s: the network has %d classes, but model.num_class_embeds=%d asks for %d; leave "
                   "model.num_class_embeds out to train the folder's network",
                   c->model.init_from, there, c->model.num_class_embeds, asked);
}

/* The network of the folder stays as it is, so the data and label dropout must fit it. */
static ddpm_status check_fits_folder(const ddpm_config *c, const network *net, image_shape shape, err *e)
{
    const int embeds = net->unet.num_class_embeds;
    const char *folder = c->model.init_from;
    if (!folder[0]) return DDPM_OK;
    if (unet_config_conditional(&net->unet) && shape.classes == 0)
        return err_set(
            e, DDPM_EINVAL,
            "%.300s: the network distinguishes classes (num_class_embeds), but the images have no labels; use "
            "data with labels, or begin with a network without classes",
            folder);
    if (unet_config_conditional(&net->unet) && embeds < shape.classes)
        return err_set(
            e, DDPM_EINVAL,
            "%.300s: the network's num_class_embeds is %d, but the images have %d classes; use data of at most "
            "%d classes, or train a new network, without model.init_from",
            folder, embeds, shape.classes, embeds);
    if (c->train.label_dropout == 0 || (embeds > 0 && embeds != shape.classes)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "train.label_dropout=%g: the network has no %s in %.300s (num_class_embeds is %d); set "
                   "train.label_dropout=0, or train a new network, without model.init_from",
                   c->train.label_dropout,
                   embeds ? "row that stands for no class beside the classes of the images" : "classes", folder,
                   embeds);
}

static ddpm_status check_data(const ddpm_config *c, const network *net, image_shape shape, err *e)
{
    const int embeds = net->unet.num_class_embeds, asked = c->model.num_class_embeds;
    const bool conditional = unet_config_conditional(&net->unet);
    if ((conditional || asked != 0) && shape.classes == 0)
        return err_set(
            e, DDPM_EINVAL,
            "the network is to distinguish classes (num_class_embeds), but the images have no labels; use data "
            "with labels, such as a folder with a sub-folder for each class, or set model.num_class_embeds=0");
    if (asked < 0 && shape.classes < 0)
        return err_set(
            e, DDPM_EINVAL,
            "model.num_class_embeds=%d: how many classes the images have is not known here; set their number", asked);
    if (conditional && embeds < shape.classes)
        return err_set(
            e, DDPM_EINVAL,
            "num_class_embeds is %d, but the images have %d classes; set model.num_class_embeds=-1, or to at "
            "least %d",
            embeds, shape.classes, shape.classes);
    return DDPM_OK;
}

static ddpm_status check_dropout(const ddpm_config *c, const network *net, image_shape shape, err *e)
{
    const int embeds = net->unet.num_class_embeds;
    if (c->train.label_dropout == 0) return DDPM_OK;
    if (embeds == 0)
        return err_set(e, DDPM_EINVAL,
                       "train.label_dropout=%g: the network has no classes (num_class_embeds is 0); set "
                       "model.num_class_embeds=-1, or train.label_dropout=0",
                       c->train.label_dropout);
    if (embeds == shape.classes)
        return err_set(e, DDPM_EINVAL,
                       "train.label_dropout=%g: the last class stands for no class, but num_class_embeds is %d and the "
                       "images have %d classes; set model.num_class_embeds=%d, or train.label_dropout=0",
                       c->train.label_dropout, embeds, shape.classes, shape.classes + 1);
    return DDPM_OK;
}

ddpm_status recipe_check_classes(const ddpm_config *c, const network *net, image_shape shape, err *e)
{
    TRY(check_kind(c, net, e));
    TRY(check_folder(c, net, shape, e));
    TRY(check_fits_folder(c, net, shape, e));
    TRY(check_data(c, net, shape, e));
    return check_dropout(c, net, shape, e);
}
