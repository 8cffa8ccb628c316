/* Processes, mostly on other nodes, that have asked this node to tell them things: subscribers of
 * events, and prompts. Each is known until it dies. */
#include <stdlib.h>
#include <utlist.h>

#include "engine/private.h"

/* Bytes that may wait for a peer; one that reads no more of them is told nothing. */
enum { MAX_WAITING = 8 << 20 };

struct eng_client *eng_client_find(const struct engine *engine, struct span pid) {
    struct eng_client *client = engine->clients;
    while (client != NULL && !span_equal(client->pid, pid)) {
        client = client->next;
    }
    return client;
}

struct eng_client *eng_client_add(struct engine *engine, struct span pid) {
    uint8_t bytes[ENG_MAX_REF];
    struct buf ref = {bytes, 0, sizeof bytes};
    struct eng_client *client = eng_client_find(engine, pid);
    if (client != NULL) {
        return client;
    }
    eng_ref_make(engine, false, &ref);
    client = calloc(1, sizeof *client + pid.len + ref.len);
    if (client == NULL) {
        return NULL;
    }
    uint8_t *at = client->bytes;
    client->pid = span_keep(&at, pid);
    client->ref = span_keep(&at, buf_span(&ref));
    client->env_ref = LUA_NOREF;
    LL_PREPEND(engine->clients, client);
    if (!eng_watch_add(engine->control, ENG_WATCH_USER, client->ref, client->pid,
                       ext_node_of(client->pid))) {
        eng_client_forget(engine, client);
        return NULL;
    }
    return eng_client_find(engine, pid); /* it may be dead already */
}

void eng_client_forget(struct engine *engine, struct eng_client *client) {
    LL_DELETE(engine->clients, client);
    eng_watch_remove(engine->control, client->ref);
    eng_evals_end(engine, client->pid, "killed");
    if (engine->scratchpad != NULL) {
        luaL_unref(engine->scratchpad->L, LUA_REGISTRYINDEX, client->env_ref);
    }
    free(client);
}

void eng_client_died(struct engine *engine, struct span ref) {
    struct eng_client *client = engine->clients;
    while (client != NULL && !span_equal(client->ref, ref)) {
        client = client->next;
    }
    if (client != NULL) {
        eng_client_forget(engine, client);
    }
}

void eng_clients_clear(struct engine *engine) {
    while (engine->clients != NULL) {
        eng_client_forget(engine, engine->clients);
    }
}

struct buf *eng_client_begin(struct engine *engine, struct span pid) {
    struct dist_control control = {.op = DIST_SEND, .to = pid};
    struct dist_peer *peer =
        engine->node == NULL ? NULL : dist_node_peer(engine->node, ext_node_of(pid));
    struct err err;
    if (peer != NULL && dist_peer_waiting(peer) > MAX_WAITING) {
        return NULL;
    }
    return eng_send_begin(engine, &control, (struct span){0}, &err);
}

void eng_client_end(struct engine *engine, bool complete) {
    struct dist_peer *crowded = engine->crowded;
    struct err err;
    if (complete) {
        eng_send_end(engine, &err);
    } else {
        eng_send_drop(engine);
    }
    engine->crowded = crowded; /* nobody waits for a client to read */
}

/* {lunode, Node, Event, Handler, Details} */
static bool put_event(struct buf *out, const struct engine *engine, const char *event,
                      const char *handler, struct span details) {
    return ext_put_tuple(out, 5) && ext_put_atom(out, span_str("lunode")) &&
           ext_put_atom(out, eng_node_name(engine)) && ext_put_atom(out, span_str(event)) &&
           ext_put_atom(out, span_str(handler)) && buf_append(out, details.data, details.len);
}

void eng_pass_event(struct engine *engine, struct span message) {
    struct eng_client *client;
    struct eng_client *next;
    LL_FOREACH_SAFE(engine->clients, client, next) {
        struct buf *out = client->subscribed ? eng_client_begin(engine, client->pid) : NULL;
        if (out != NULL) {
            eng_client_end(engine, buf_append(out, message.data, message.len));
        }
    }
}

void eng_event(struct eng_handler *handler, const char *event, struct span details) {
    struct engine *engine = handler->engine;
    struct buf message = {0};
    if (engine->clients != NULL && put_event(&message, engine, event, handler->name, details)) {
        eng_pass_event(engine, buf_span(&message));
    }
    buf_finish(&message);
}

/* Without memory nobody is told. */
static void end_event(struct eng_handler *handler, const char *event, struct buf *details,
                      bool complete) {
    if (complete) {
        eng_event(handler, event, buf_span(details));
    }
    buf_finish(details);
}

void eng_event_numbers(struct eng_handler *handler, const char *event, const char *key1,
                       uint64_t value1, const char *key2, uint64_t value2) {
    struct buf map = {0};
    bool ok = ext_put_map(&map, (key1 != NULL) + (key2 != NULL));
    ok = ok && (key1 == NULL || (ext_put_atom(&map, span_str(key1)) && ext_put_uint(&map, value1)));
    ok = ok && (key2 == NULL || (ext_put_atom(&map, span_str(key2)) && ext_put_uint(&map, value2)));
    end_event(handler, event, &map, ok);
}

void eng_event_text(struct eng_handler *handler, const char *event, const char *reason) {
    struct buf map = {0};
    bool ok = ext_put_map(&map, 1) && ext_put_atom(&map, span_str("reason")) &&
              ext_put_binary(&map, span_str(reason));
    end_event(handler, event, &map, ok);
}

void eng_event_limit(struct eng_handler *handler, const char *kind, size_t max, size_t used) {
    struct buf map = {0};
    bool ok = ext_put_map(&map, 3) && ext_put_atom(&map, span_str("kind")) &&
              ext_put_atom(&map, span_str(kind)) && ext_put_atom(&map, span_str("max")) &&
              ext_put_uint(&map, max) && ext_put_atom(&map, span_str("used")) &&
              ext_put_uint(&map, used);
    end_event(handler, "limit", &map, ok);
}
