/* Scripts in files that are not trusted: what is in them is loaded outside, by the part of the node
 * that has processes for it, and here is only known where they are. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/file.h"
#include "engine/private.h"

struct eng_outsider *eng_outsider_find(struct engine *engine, struct span name) {
    struct eng_outsider *outsider;
    LL_FOREACH(engine->outsiders, outsider) {
        if (span_equal(span_str(outsider->name), name)) {
            break;
        }
    }
    return outsider;
}

static void destroy(struct eng_outsider *outsider) {
    eng_policy_finish(&outsider->policy);
    buf_finish(&outsider->source);
    free(outsider->name);
    free(outsider->path);
    free(outsider);
}

static struct eng_outsider *create(const struct eng_script *script) {
    struct eng_outsider *outsider = calloc(1, sizeof *outsider);
    if (outsider == NULL) {
        return NULL;
    }
    outsider->name = strdup(script->name);
    outsider->path = strdup(script->path);
    outsider->found_in_folder = script->found_in_folder;
    if (outsider->name == NULL || outsider->path == NULL ||
        !eng_policy_copy(&outsider->policy, &script->policy)) {
        destroy(outsider);
        return NULL;
    }
    return outsider;
}

bool eng_outsider_load(struct engine *engine, struct eng_outsider *outsider,
                       const struct eng_caller *caller, struct err *err) {
    struct buf source = {0};
    if (!file_read(outsider->path, &source, err)) {
        buf_finish(&source);
        return false;
    }
    buf_finish(&outsider->source);
    outsider->source = source;
    outsider->replaced = false;
    engine->outside.load(engine->outside.user, span_str(outsider->name), buf_span(&source),
                         &outsider->policy, (struct span){0}, caller);
    return true;
}

bool eng_outsider_add(struct engine *engine, const struct eng_script *script, struct err *err) {
    struct eng_outsider *outsider = NULL;
    if (strcmp(script->name, "any") == 0) {
        return err_set(err, "%s: the default handler must be trusted", script->path);
    }
    outsider = create(script);
    if (outsider == NULL) {
        return err_set(err, "no memory for a script");
    }
    LL_APPEND(engine->outsiders, outsider);
    return eng_outsider_load(engine, outsider, NULL, err);
}

void eng_outsider_remove(struct engine *engine, struct eng_outsider *outsider) {
    LL_DELETE(engine->outsiders, outsider);
    destroy(outsider);
}

void eng_outsiders_clear(struct engine *engine) {
    while (engine->outsiders != NULL) {
        eng_outsider_remove(engine, engine->outsiders);
    }
}
