/* Control messages as bytes, read and written by one table: see control.h. */
#include "dist/control.h"

#include <stddef.h>

#include "base/ext.h"
#include "dist/private.h"

/* {==== The table ========================================================================= */

enum { MAX_PARTS = 5 };

/* What stands at a place of the tuple, behind the operation's number. */
enum part { NONE, UNUSED, TOKEN, FROM, TO, REF, REASON, GROUP, MFA, OPTIONS };

struct layout {
    uint8_t op; /* the plain operation, also where the entry is a traced variant */
    uint8_t parts[MAX_PARTS + 1];
};

/* By the operation's number. Traced variants are only read: their token is left out. */
static const struct layout layouts[] = {
    [DIST_LINK] = {DIST_LINK, {FROM, TO}},
    [DIST_SEND] = {DIST_SEND, {UNUSED, TO}},
    [DIST_EXIT] = {DIST_EXIT, {FROM, TO, REASON}},
    [DIST_UNLINK] = {DIST_UNLINK, {FROM, TO}},
    [DIST_REG_SEND] = {DIST_REG_SEND, {FROM, UNUSED, TO}},
    [DIST_GROUP_LEADER] = {DIST_GROUP_LEADER, {FROM, TO}},
    [DIST_EXIT2] = {DIST_EXIT2, {FROM, TO, REASON}},
    [12] = {DIST_SEND, {UNUSED, TO, TOKEN}},
    [13] = {DIST_EXIT, {FROM, TO, TOKEN, REASON}},
    [16] = {DIST_REG_SEND, {FROM, UNUSED, TO, TOKEN}},
    [18] = {DIST_EXIT2, {FROM, TO, TOKEN, REASON}},
    [DIST_MONITOR_P] = {DIST_MONITOR_P, {FROM, TO, REF}},
    [DIST_DEMONITOR_P] = {DIST_DEMONITOR_P, {FROM, TO, REF}},
    [DIST_MONITOR_P_EXIT] = {DIST_MONITOR_P_EXIT, {FROM, TO, REF, REASON}},
    [DIST_SPAWN_REQUEST] = {DIST_SPAWN_REQUEST, {REF, FROM, GROUP, MFA, OPTIONS}},
    [30] = {DIST_SPAWN_REQUEST, {REF, FROM, GROUP, MFA, OPTIONS, TOKEN}},
    [DIST_SPAWN_REPLY] = {DIST_SPAWN_REPLY, {REF, TO, OPTIONS, REASON}},
    [32] = {DIST_SPAWN_REPLY, {REF, TO, OPTIONS, REASON, TOKEN}},
    [DIST_ALIAS_SEND] = {DIST_ALIAS_SEND, {FROM, REF}},
    [34] = {DIST_ALIAS_SEND, {FROM, REF, TOKEN}},
    [DIST_UNLINK_ID] = {DIST_UNLINK_ID, {REF, FROM, TO}},
    [DIST_UNLINK_ID_ACK] = {DIST_UNLINK_ID_ACK, {REF, FROM, TO}},
    [DIST_NODE_DOWN] = {DIST_NODE_DOWN, {NONE}},
    [DIST_NODE_UP] = {DIST_NODE_UP, {NONE}},
    [DIST_PING] = {DIST_PING, {NONE}},
};

enum { OPS = sizeof layouts / sizeof layouts[0] };

static const size_t fields[] = {
    [FROM] = offsetof(struct dist_control, from),
    [TO] = offsetof(struct dist_control, to),
    [REF] = offsetof(struct dist_control, ref),
    [REASON] = offsetof(struct dist_control, reason),
    [GROUP] = offsetof(struct dist_control, group),
    [MFA] = offsetof(struct dist_control, mfa),
    [OPTIONS] = offsetof(struct dist_control, options),
};

static const struct layout *layout_of(int64_t op) {
    return op > 0 && op < OPS && layouts[op].op != 0 ? &layouts[op] : NULL;
}

static unsigned arity_of(const struct layout *layout) {
    unsigned count = 1;
    while (count <= MAX_PARTS + 1 && layout->parts[count - 1] != NONE) {
        count++;
    }
    return count;
}

/* }==== */

/* {==== Reading =========================================================================== */

static bool read_part(struct span *in, struct dist_control *control, uint8_t part) {
    struct span term;
    if (!ext_take(in, &term)) {
        return false;
    }
    if (part != UNUSED && part != TOKEN) {
        memcpy((char *)control + fields[part], &term, sizeof term);
    }
    return true;
}

static bool read_control(struct span *in, struct dist_control *control) {
    struct span rest = *in;
    uint32_t arity;
    int64_t op;
    if (!ext_take_tuple(&rest, &arity) || arity == 0 || !ext_take_int(&rest, &op)) {
        return false;
    }
    const struct layout *layout = layout_of(op);
    if (layout == NULL || arity != arity_of(layout)) {
        return false;
    }
    *control = (struct dist_control){.op = (enum dist_op)layout->op};
    for (unsigned i = 0; i + 1 < arity; i++) {
        if (!read_part(&rest, control, layout->parts[i])) {
            return false;
        }
    }
    *in = rest;
    return true;
}

bool dist_control_read(struct span *in, struct dist_control *control) {
    struct span rest = *in;
    if (!read_control(&rest, control) || control->op >= DIST_NODE_DOWN) {
        return false;
    }
    *in = rest;
    return true;
}

bool dist_control_read_channel(struct span *in, struct dist_control *control) {
    struct span rest = *in;
    struct span node;
    bool latin1;
    if (!ext_take_atom(&rest, &node, &latin1) || !read_control(&rest, control)) {
        return false;
    }
    control->node = node;
    *in = rest;
    return true;
}

int dist_control_peek(struct span in) {
    uint32_t arity;
    int64_t op;
    if (!ext_take_tuple(&in, &arity) || arity == 0 || !ext_take_int(&in, &op)) {
        return 0;
    }
    return op > 0 && op <= UINT8_MAX ? (int)op : 0;
}

/* }==== */

/* {==== Writing =========================================================================== */

static bool write_part(struct buf *out, const struct dist_control *control, uint8_t part) {
    struct span term;
    if (part == UNUSED) {
        return ext_put_atom(out, span_str(""));
    }
    memcpy(&term, (const char *)control + fields[part], sizeof term);
    return term.len > 0 && buf_append(out, term.data, term.len);
}

static bool write_parts(struct buf *out, const struct dist_control *control,
                        const struct layout *layout) {
    unsigned arity = arity_of(layout);
    if (!ext_put_version(out) || (control->node.len > 0 && !ext_put_atom(out, control->node)) ||
        !ext_put_tuple(out, arity) || !ext_put_int(out, control->op)) {
        return false;
    }
    for (unsigned i = 0; i + 1 < arity; i++) {
        if (!write_part(out, control, layout->parts[i])) {
            return false;
        }
    }
    return true;
}

bool dist_control_write(struct buf *out, const struct dist_control *control) {
    const struct layout *layout = layout_of(control->op);
    size_t start = out->len;
    if (layout == NULL || !write_parts(out, control, layout)) {
        out->len = start;
        return false;
    }
    return true;
}

/* }==== */
