/* What the node tells of itself: its handlers, and what they and the peers have done. */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/private.h"

/* {==== Pieces ============================================================================ */

static bool put_key(struct buf *out, const char *key) {
    return ext_put_atom(out, span_str(key));
}

static bool put_uint(struct buf *out, const char *key, uint64_t value) {
    return put_key(out, key) && ext_put_uint(out, value);
}

static bool put_nil(struct buf *out) {
    return ext_put_atom(out, span_str("nil"));
}

/* `visible`: those that are on their way out are not told of. */
static uint32_t count_handlers(const struct engine *engine) {
    uint32_t count = 0;
    for (const struct eng_handler *handler = engine->handlers; handler != NULL;
         handler = handler->next) {
        count += handler->leaving ? 0 : 1;
    }
    return count;
}

/* }==== */

/* {==== :handlers ========================================================================= */

static const char *state_of(const struct eng_handler *handler) {
    if (handler->version == NULL) {
        return handler->loader == NULL ? "failed" : "loading";
    }
    return handler->proc == NULL ? "down" : "running";
}

static uint64_t count_processes(const struct eng_handler *handler) {
    uint64_t count = 0;
    for (const struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        count += proc == handler->loader ? 0 : 1;
    }
    return count;
}

static bool put_version(struct buf *out, const struct eng_version *version) {
    if (version == NULL) {
        return put_key(out, "version") && put_nil(out) && put_key(out, "since") && put_nil(out);
    }
    return put_uint(out, "version", version->number) && put_uint(out, "since", version->since);
}

static bool put_file(struct buf *out, const struct eng_handler *handler) {
    const struct eng_version *version =
        handler->version == NULL ? handler->tried : handler->version;
    bool has = handler->path != NULL && (version == NULL || !version->is_text);
    return put_key(out, "file") &&
           (has ? ext_put_binary(out, span_str(handler->path)) : put_nil(out));
}

static bool put_handler(struct buf *out, const struct eng_handler *handler) {
    return ext_put_map(out, 7) && put_key(out, "name") &&
           ext_put_atom(out, span_str(handler->name)) && put_version(out, handler->version) &&
           put_file(out, handler) && put_key(out, "state") &&
           ext_put_atom(out, span_str(state_of(handler))) &&
           put_uint(out, "processes", count_processes(handler)) && put_key(out, "last_error") &&
           (handler->last_error.len > 0
                ? buf_append(out, handler->last_error.data, handler->last_error.len)
                : put_nil(out));
}

bool eng_report_handlers(struct engine *engine, struct buf *out) {
    uint32_t count = count_handlers(engine);
    bool ok = count == 0 || ext_put_list(out, count);
    for (const struct eng_handler *handler = engine->handlers; ok && handler != NULL;
         handler = handler->next) {
        ok = handler->leaving || put_handler(out, handler);
    }
    return ok && ext_put_nil(out);
}

/* }==== */

/* {==== :stats ============================================================================ */

static uint64_t waiting_mail(const struct eng_handler *handler) {
    uint64_t count = 0;
    for (const struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
        count += proc->mailbox.count;
    }
    return count;
}

/* The most that the VM has taken; only one with a limit knows. */
static bool put_peak(struct buf *out, const struct eng_handler *handler) {
    bool knows = handler->vm != NULL && handler->vm->heap != NULL;
    return put_key(out, "memory_peak") &&
           (knows ? ext_put_uint(out, handler->vm->peak) : put_nil(out));
}

static bool put_handler_stats(struct buf *out, const struct eng_handler *handler) {
    const struct eng_counters *counters = &handler->counters;
    return ext_put_atom(out, span_str(handler->name)) && ext_put_map(out, 10) &&
           put_uint(out, "messages", counters->messages) &&
           put_uint(out, "errors", counters->errors) &&
           put_uint(out, "restarts", counters->restarts) &&
           put_uint(out, "reloads", handler->last_version > 0 ? handler->last_version - 1 : 0) &&
           put_uint(out, "mailbox", waiting_mail(handler)) &&
           put_uint(out, "processes", count_processes(handler)) &&
           put_uint(out, "run_time", counters->run_ns / 1000) &&
           put_uint(out, "longest_slice", counters->longest_ns / 1000) &&
           put_uint(out, "memory", eng_vm_memory(handler)) && put_peak(out, handler);
}

static bool put_handlers_stats(struct buf *out, const struct engine *engine) {
    bool ok = put_key(out, "handlers") && ext_put_map(out, count_handlers(engine));
    for (const struct eng_handler *handler = engine->handlers; ok && handler != NULL;
         handler = handler->next) {
        ok = handler->leaving || put_handler_stats(out, handler);
    }
    return ok;
}

struct peers {
    struct buf *out;
    uint32_t count;
    bool ok;
};

static void count_peer(void *argument, struct dist_peer *peer) {
    struct peers *peers = argument;
    (void)peer;
    peers->count++;
}

static void put_peer(void *argument, struct dist_peer *peer) {
    struct peers *peers = argument;
    struct buf *out = peers->out;
    struct dist_traffic traffic = dist_peer_traffic(peer);
    peers->ok = peers->ok && ext_put_atom(out, span_str(dist_peer_name(peer))) &&
                ext_put_map(out, 4) && put_uint(out, "frames_in", traffic.frames_in) &&
                put_uint(out, "frames_out", traffic.frames_out) &&
                put_uint(out, "bytes_in", traffic.bytes_in) &&
                put_uint(out, "bytes_out", traffic.bytes_out);
}

static bool put_peers(struct buf *out, const struct engine *engine) {
    struct peers peers = {out, 0, true};
    dist_node_peers(engine->node, count_peer, &peers);
    peers.ok = put_key(out, "peers") && ext_put_map(out, peers.count);
    dist_node_peers(engine->node, put_peer, &peers);
    return peers.ok;
}

/* Resident bytes of this OS process; 0 when the system does not tell, as in a jail. */
static uint64_t resident_bytes(const struct engine *engine) {
    size_t bytes = 0;
    return engine->slot == 0 && uv_resident_set_memory(&bytes) == 0 ? bytes : 0;
}

bool eng_report_stats(struct engine *engine, struct buf *out) {
    return ext_put_map(out, 6) &&
           put_uint(out, "uptime", (uv_hrtime() - engine->begun_ns) / 1000000) &&
           put_uint(out, "memory", resident_bytes(engine)) &&
           put_uint(out, "processes", HASH_COUNT(engine->procs)) &&
           put_uint(out, "atoms", term_atoms_count(engine->atoms)) &&
           put_handlers_stats(out, engine) && put_peers(out, engine);
}

/* }==== */
