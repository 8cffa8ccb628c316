/* How much goes through the workers' channels, and when: what waits for a worker leaves, and a
 * worker is held that sends too much, or whose frames are for a peer that does not read. */
#include <utlist.h>

#include "jail/private.h"

enum {
    CREDIT_RATE = 8 << 20, /* bytes a second */
    CREDIT_MOST = 64 << 10,
    PACE_MS = 5,
    SOON_MS = 5,
    PATIENT = 16 << 10, /* bytes that may wait though they are not urgent */
    CROWDED = 8 << 20,  /* bytes that wait for a peer, for whose sake no worker is read */
};

static const uint64_t NS = 1000000000;

static void look_at_peer(void *argument, struct dist_peer *peer) {
    size_t *most = argument;
    size_t waiting = dist_peer_waiting(peer);
    *most = waiting > *most ? waiting : *most;
}

/* The most bytes that wait for a peer. */
static size_t most_waiting(const struct jail *jail) {
    size_t most = 0;
    dist_node_peers(jail->node, look_at_peer, &most);
    return most;
}

/* What nobody has asked for must not fill the connections on which others wait for answers: so many
 * bytes a second. */
static void earn(struct jail_worker *worker) {
    uint64_t now = uv_hrtime();
    uint64_t ns = now - worker->credit_ns;
    worker->credit_ns = now;
    worker->credit += (int64_t)(ns < NS ? ns * CREDIT_RATE / NS : CREDIT_RATE);
    worker->credit = worker->credit > CREDIT_MOST ? CREDIT_MOST : worker->credit;
}

static void on_pace(uv_timer_t *timer) {
    jail_flush(timer->data);
}

void jail_worker_hold(struct jail_worker *worker, size_t extra) {
    struct jail *jail = worker->jail;
    worker->credit -= (int64_t)extra;
    if (worker->credit < 0 && extra > 0) {
        earn(worker);
    }
    bool is_spent = worker->credit < 0;
    if (!worker->held && (is_spent || most_waiting(jail) > CROWDED)) {
        worker->held = true;
        dist_peer_hold(worker->channel, true);
    }
    if (is_spent && !uv_is_active((uv_handle_t *)&jail->pace)) {
        uv_timer_start(&jail->pace, on_pace, PACE_MS, 0);
    }
}

static void look_at_held(struct jail_worker *worker) {
    earn(worker);
    if (worker->credit < 0) {
        uv_timer_start(&worker->jail->pace, on_pace, PACE_MS, 0);
    } else if (most_waiting(worker->jail) < CROWDED / 2) {
        worker->held = false;
        dist_peer_hold(worker->channel, false);
    }
}

static void on_soon(uv_timer_t *timer) {
    struct jail *jail = timer->data;
    struct jail_worker *worker;
    DL_FOREACH(jail->workers, worker) {
        worker->urgent = true;
    }
    jail_flush(jail);
}

void jail_flush_soon(struct jail *jail) {
    if (!uv_is_active((uv_handle_t *)&jail->soon)) {
        uv_timer_start(&jail->soon, on_soon, SOON_MS, 0);
    }
}

void jail_flush(struct jail *jail) {
    struct jail_worker *worker;
    if (jail == NULL) {
        return;
    }
    DL_FOREACH(jail->workers, worker) {
        if (worker->down) {
            continue;
        }
        if (worker->urgent || dist_peer_waiting(worker->channel) > PATIENT) {
            worker->urgent = false;
            dist_peer_flush(worker->channel);
        }
        if (worker->held) {
            look_at_held(worker);
        }
    }
}
