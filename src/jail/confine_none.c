/* The jail on a system that is not Linux: there is none. See confine.h. */
#include "jail/confine.h"

bool jail_probe(struct jail_means *means, struct err *err) {
    *means = (struct jail_means){false, false};
    return err_set(err, "this system cannot confine a process: that takes Linux");
}

bool jail_prepare_system(const struct jail_means *means, struct err *err) {
    (void)means;
    (void)err;
    return true;
}

bool jail_lock_system(const struct jail_means *means, struct err *err) {
    (void)means;
    (void)err;
    return true;
}
