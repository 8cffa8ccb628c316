/* The names of processes: a handler's own, those of the node, and those that scripts register. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/private.h"

static struct eng_name *find(struct engine *engine, struct span text) {
    struct eng_name *name;
    HASH_FIND(hh, engine->names, text.data, text.len, name);
    return name;
}

struct eng_proc *eng_whereis(struct engine *engine, struct span text, struct span *failure) {
    *failure = (struct span){0};
    if (span_equal(text, span_str("net_kernel"))) {
        return engine->net_kernel;
    }
    if (span_equal(text, span_str("lunode"))) {
        return engine->control;
    }
    const struct eng_name *name = find(engine, text);
    if (name != NULL) {
        return name->proc;
    }
    const struct eng_handler *handler = span_equal(text, span_str("any"))
                                            ? eng_handler_default(engine)
                                            : eng_handler_find(engine, text);
    if (handler == NULL) {
        return NULL;
    }
    *failure = buf_span(&handler->failure);
    return handler->proc;
}

static bool is_reserved(struct engine *engine, struct span text) {
    return eng_config_is_reserved(text) || span_equal(text, span_str("any")) ||
           eng_handler_find(engine, text) != NULL;
}

bool eng_name_register(struct eng_proc *proc, struct span text, struct err *err) {
    struct engine *engine = proc->engine;
    if (is_reserved(engine, text)) {
        return err_set(err, "the name %.*s is a handler's or the node's own", (int)text.len,
                       (const char *)text.data);
    }
    if (find(engine, text) != NULL) {
        return err_set(err, "the name %.*s is taken", (int)text.len, (const char *)text.data);
    }
    struct eng_name *name = malloc(sizeof *name + text.len);
    if (name == NULL) {
        return err_set(err, "no memory for a name");
    }
    name->proc = proc;
    name->len = text.len;
    memcpy(name->text, text.data, text.len);
    HASH_ADD_KEYPTR(hh, engine->names, name->text, name->len, name);
    DL_APPEND(proc->names, name);
    return true;
}

void eng_names_clear(struct eng_proc *proc) {
    struct eng_name *name;
    struct eng_name *next;
    DL_FOREACH_SAFE(proc->names, name, next) {
        HASH_DELETE(hh, proc->engine->names, name);
        free(name);
    }
    proc->names = NULL;
}
