/* What the files of src/jail share, grouped by the file that defines it. */
#ifndef LUNODE_JAIL_PRIVATE_H
#define LUNODE_JAIL_PRIVATE_H

#include <uthash.h>

#include "base/ext.h"
#include "dist/peer.h"
#include "jail/jail.h"
#include "jail/ledger.h"
#include "jail/payload.h"

struct jail_worker;

/* {==== tenant.c: the handlers that run in workers ======================================== */

enum { JAIL_MAX_FAILURES = 5, JAIL_FAILURE_SPAN_MS = 10000 };

struct jail_tenant {
    char *name;
    struct jail_worker *worker; /* NULL: it is down */
    bool live;                  /* a script of it has loaded */
    unsigned asked;             /* loads and unloads that were not answered yet */
    struct buf source;          /* what runs */
    struct buf start;           /* the argument of `init`; may be empty */
    struct buf modules;         /* a map; may be empty */
    struct eng_policy policy;
    uint64_t reported;                    /* the last report that it is in */
    struct buf failure;                   /* why it is down, an external term */
    uint64_t failures[JAIL_MAX_FAILURES]; /* when it ended its worker last, ms of the loop */
    struct jail_tenant *prev, *next;      /* of the same worker */
    UT_hash_handle hh;                    /* by name */
};

struct jail_tenant *jail_tenant_find(const struct jail *jail, struct span name);

/* Without a worker. NULL: no memory. */
struct jail_tenant *jail_tenant_add(struct jail *jail, struct span name);
void jail_tenant_drop(struct jail *jail, struct jail_tenant *tenant);

/* Gives it to a worker, which is started if need be. */
bool jail_tenant_place(struct jail *jail, struct jail_tenant *tenant, bool isolated,
                       struct err *err);

/* Notes that it has ended its worker; whether it did so too often. */
bool jail_tenant_failed(struct jail *jail, struct jail_tenant *tenant);

/* Gives those that have none, and are not to stay down, a worker again. */
void jail_tenants_place(struct jail *jail);

/* }==== */

/* {==== request.c: what the node itself asks of a worker ================================== */

enum jail_request_kind { JAIL_LOAD, JAIL_UNLOAD, JAIL_REPORT, JAIL_TELL };

struct jail_report;

struct jail_request {
    enum jail_request_kind kind;
    struct jail_tenant *tenant;
    struct jail_report *report;
    struct eng_caller caller; /* who asked the node; without a pid nobody */
    struct buf source;        /* of a load */
    struct buf start;
    struct buf modules;
    struct eng_policy policy;
    uint8_t bytes[];
};

/* What src/engine/engine.h asks of the part outside. */
void jail_load(void *user, struct span name, const struct eng_script_text *text,
               const struct eng_caller *caller);
void jail_ask(void *user, enum eng_request what, struct span name, struct span body,
              const struct eng_caller *caller);
void jail_interrupt(void *user, struct span prompt);
void jail_given_up(void *user, struct span ref);

/* Loads again what a worker that has died ran. */
void jail_restore(struct jail_worker *worker, struct jail_tenant *tenant);

/* Asks to be told what happens in the worker. */
void jail_subscribe(struct jail_worker *worker);

/* Asks for the answer to :handlers or :stats, for a report. */
bool jail_request_report(struct jail_worker *worker, struct jail_report *report, bool stats);

/* The worker has answered; the request is freed. */
void jail_request_done(struct jail_worker *worker, struct jail_request *request, struct span value);

/* The node ends. */
void jail_request_drop(struct jail_request *request);

/* It will never be answered: `reason` says why. Freed likewise. */
void jail_request_failed(struct jail_worker *worker, struct jail_request *request,
                         struct span reason);

/* }==== */

/* {==== report.c: :handlers and :stats of all processes together ========================== */

void jail_report(void *user, bool stats, struct span own, const struct eng_caller *caller);

/* A worker's part; empty when there is none. */
void jail_report_add(struct jail_report *report, const struct jail_worker *worker,
                     struct span part);
void jail_reports_stop(struct jail *jail);

/* }==== */

/* {==== in.c: what goes into a worker ===================================================== */

/* Whether it is for a worker; then it is passed on to it. */
bool jail_route(void *user, struct span node, const struct dist_control *control,
                struct span payload);

/* Notes what the worker owes by it, and passes it on. */
void jail_enter(struct jail_worker *worker, struct span node, const struct dist_control *control,
                struct span payload);

/* Sends without a note. False: no memory. */
bool jail_send(struct jail_worker *worker, struct span node, const struct dist_control *control,
               struct span payload);

/* }==== */

/* {==== out.c: what comes out of a worker ================================================= */

/* Checks a frame by the ledger and by what its handlers may do, and passes it on. */
void jail_leave(struct jail_worker *worker, const struct dist_control *control,
                struct span payload);

/* What its handlers may do is new: a frame that is longer than they need is not read. */
void jail_limit_frames(struct jail_worker *worker);

/* The worker has died: everybody who waits is told the reason. `culprit`: the name of the handler
 * that ended it, which `reason` is for; others get `other`. */
void jail_settle(struct jail_worker *worker, struct span culprit, struct span reason,
                 struct span other);

/* To a process of this node or of another. */
void jail_pass(struct jail *jail, const struct dist_control *control, struct span payload);

/* }==== */

/* {==== worker.c: the processes =========================================================== */

struct jail_worker {
    struct jail *jail;
    uint16_t slot;
    bool isolated; /* it has one handler */
    bool down;     /* the channel is closed */
    bool exited;
    bool condemned;     /* what it sends is not looked at any more */
    bool urgent;        /* what waits for it is to leave with this turn */
    bool held;          /* its channel is not read: some peer does not read, or it sends too much */
    int64_t credit;     /* bytes that it may send unasked */
    uint64_t credit_ns; /* when that was so */
    int64_t exit_status;
    int exit_signal;
    uv_process_t process;
    uv_poll_t output; /* its standard error: log lines, last words */
    int output_fd;
    size_t output_budget; /* bytes that are read until the next look */
    struct buf line;      /* of its output, not whole yet */
    struct dist_peer *channel;
    unsigned parts;  /* handles that are open */
    uint64_t pinged; /* when, ms of the loop; 0: it has answered */
    struct jail_ledger ledger;
    struct jail_given given; /* what it may name without making something new of it */
    uint32_t fresh;          /* new atoms and funs that it has sent */
    struct jail_tenant *tenants;
    size_t tenant_count;
    uint64_t idle_since;                     /* ms of the loop; while it has none */
    char culprit[256];                       /* its last words: who has ended it, */
    char where[128];                         /* where in his script, */
    unsigned long culprit_max, culprit_used; /* after how many ms, */
    char why[256];                           /* or why it was ended */
    struct jail_worker *prev, *next;
};

/* Where a worker has its channel: a pipe to read and one to write. */
enum { JAIL_CHANNEL_IN = 3, JAIL_CHANNEL_OUT = 4 };

struct jail_worker *jail_worker_start(struct jail *jail, bool isolated, struct err *err);
/* That a node can be reached. */
void jail_worker_tell_node(struct jail_worker *worker, struct span node);

struct jail_worker *jail_worker_of_slot(const struct jail *jail, int slot);

void jail_workers_look(struct jail *jail);

/* }==== */

/* {==== output.c: what they say =========================================================== */

/* Takes over the descriptor, the pipe from its standard error. */
void jail_output_open(struct jail_worker *worker, int fd);

/* To be called at each look: so many bytes more are read. */
void jail_output_go_on(struct jail_worker *worker);

/* It has ended: reads what is left. */
void jail_output_finish(struct jail_worker *worker);

/* }==== */

/* {==== end.c: how they end =============================================================== */

/* Ends it: it has tried what it may not. */
void jail_worker_condemn(struct jail_worker *worker, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* It is not needed any more, or the node ends: nobody is told. */
void jail_worker_stop(struct jail_worker *worker);

/* What its process and its channel report: with both it is over. */
void jail_worker_exited(uv_process_t *process, int64_t status, int number);
void jail_worker_down(void *user, struct dist_peer *peer, const char *why);

/* Its memory alone. */
void jail_worker_free(struct jail_worker *worker);

/* }==== */

/* {==== flow.c: how much goes through their channels, and when ============================ */

/* To be called when something of it was passed on: its channel is not read any more when a peer
 * does not keep up, or when it has sent too many bytes unasked, of which these are the last. It is
 * read again in time. */
void jail_worker_hold(struct jail_worker *worker, size_t extra);

/* What is not urgent leaves within some milliseconds. */
void jail_flush_soon(struct jail *jail);

/* }==== */

/* {==== jail.c ============================================================================ */

struct jail {
    uv_loop_t *loop;
    struct log *log;
    struct engine *engine;
    struct dist_node *node;
    struct jail_config config;
    uv_timer_t ticker;
    uv_timer_t soon;             /* until what is not urgent leaves too */
    uv_timer_t pace;             /* until a worker that has sent too much is read again */
    struct jail_tenant *tenants; /* uthash */
    struct jail_worker *workers;
    struct jail_report *reports; /* under way */
    struct err refusal;          /* why no untrusted script can run; empty when they can */
    uint64_t last_ref;
    uint64_t last_report;
    uint64_t started[JAIL_MAX_FAILURES]; /* when workers were started again last */
    uint16_t last_slot;
    bool stopping;
    int open_timers; /* it goes with the last of them, and of the workers */
};

/* Looks after the workers from now on. */
void jail_look_later(struct jail *jail);

/* To be called when a worker has gone. */
void jail_free_if_over(struct jail *jail);

/* }==== */

#endif
