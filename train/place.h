/* train/place.h - where a base's small files are: a folder, or a container that holds copies. */
#ifndef TRAIN_PLACE_H
#define TRAIN_PLACE_H

#include "core/json.h"
#include "io/container.h"

struct place {
    const char *path;
    struct container container; /* empty for a folder */
    bool is_container;
};

/* `path` is a folder or a .h5. */
enum graft_status place_open(const char *path, struct place *out, struct graft_err *err);
void place_release(struct place *p);

/* Append the file `name` ("NAME" or "FOLDER/NAME"); *found tells whether there is one. */
enum graft_status place_read(const struct place *p, const char *name, struct strbuf *out,
                             bool *found, struct graft_err *err);
/* The JSON file `name`, or NULL in *out when there is none. */
enum graft_status place_json(const struct place *p, const char *name, json_t **out,
                             struct graft_err *err);

/* Call `each` for every file of the folder `dir` within the place whose name ends with `suffix`, in
 * the order of their names; a place without such a folder has none. */
typedef enum graft_status place_each(void *user, const char *name, const char *text, size_t len,
                                     struct graft_err *err);
enum graft_status place_list(const struct place *p, const char *dir, const char *suffix,
                             place_each *each, void *user, struct graft_err *err);

/* How a file of a folder within the place is called in a container, whose names have no '/'. */
enum { PLACE_NAME_MAX = 128 };
void place_container_name(const char *name, char out[PLACE_NAME_MAX]);

#endif
