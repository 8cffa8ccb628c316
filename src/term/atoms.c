/* The atom table: names to numbers and back. */
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/ext.h"
#include "term/private.h"

enum { FIRST_CAP = 256, MAX_CHARACTERS = 255, MAX_BYTES = 4 * MAX_CHARACTERS };

struct atom {
    UT_hash_handle hh;
    uint32_t number;
    uint32_t len;
    char name[];
};

struct term_atoms {
    struct atom *by_name;
    struct atom **by_number; /* atom n is at n - 1 */
    uint32_t count;
    uint32_t cap;
};

/* {==== Making and adding ================================================================= */

struct term_atoms *term_atoms_create(void) {
    static const char *const first[] = {"true", "false", "nil", "__struct__"}; /* ATOM_TRUE... */
    struct term_atoms *atoms = calloc(1, sizeof *atoms);
    if (atoms == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        uint32_t number;
        struct err err;
        if (!term_atom_intern(atoms, span_str(first[i]), &number, &err)) {
            term_atoms_destroy(atoms);
            return NULL;
        }
    }
    return atoms;
}

uint32_t term_atoms_count(const struct term_atoms *atoms) {
    return atoms->count;
}

void term_atoms_destroy(struct term_atoms *atoms) {
    if (atoms == NULL) {
        return;
    }
    HASH_CLEAR(hh, atoms->by_name);
    for (uint32_t i = 0; i < atoms->count; i++) {
        free(atoms->by_number[i]);
    }
    free(atoms->by_number);
    free(atoms);
}

static bool check_name(struct span name, struct err *err) {
    size_t characters = 0;
    while (name.len > 0) {
        uint32_t character;
        if (!utf8_next(&name, &character)) {
            return err_set(err, "an atom's name must be valid UTF-8");
        }
        characters++;
    }
    if (characters > MAX_CHARACTERS) {
        return err_set(err, "an atom of %zu characters: the limit is %d", characters,
                       (int)MAX_CHARACTERS);
    }
    return true;
}

static bool make_room(struct term_atoms *atoms) {
    if (atoms->count < atoms->cap) {
        return true;
    }
    uint32_t cap = atoms->cap == 0 ? FIRST_CAP : atoms->cap * 2;
    struct atom **grown = realloc(atoms->by_number, cap * sizeof(void *));
    if (grown == NULL) {
        return false;
    }
    atoms->by_number = grown;
    atoms->cap = cap;
    return true;
}

static bool add(struct term_atoms *atoms, struct span name) {
    struct atom *atom = malloc(sizeof *atom + name.len);
    if (atom == NULL) {
        return false;
    }
    *atom = (struct atom){.number = atoms->count + 1, .len = (uint32_t)name.len};
    if (name.len > 0) {
        memcpy(atom->name, name.data, name.len);
    }
    HASH_ADD_KEYPTR(hh, atoms->by_name, atom->name, atom->len, atom);
    if (atom->hh.tbl == NULL) { /* how uthash says that it had no memory */
        free(atom);
        return false;
    }
    atoms->by_number[atoms->count++] = atom;
    return true;
}

bool term_atom_intern(struct term_atoms *atoms, struct span name, uint32_t *number,
                      struct err *err) {
    *number = term_atom_find(atoms, name);
    if (*number != 0) {
        return true;
    }
    if (!check_name(name, err)) {
        return false;
    }
    if (atoms == NULL) {
        return err_set(err, "no atoms any more: the state is closing");
    }
    if (atoms->count >= TERM_MAX_ATOMS) {
        return err_set(err, "the atom table is full (%d atoms)", (int)TERM_MAX_ATOMS);
    }
    if (!make_room(atoms) || !add(atoms, name)) {
        return err_set(err, "no memory for an atom");
    }
    *number = atoms->count;
    return true;
}

/* }==== */

/* {==== Finding =========================================================================== */

uint32_t term_atom_find(const struct term_atoms *atoms, struct span name) {
    struct atom *atom = NULL;
    const void *key = name.len == 0 ? (const void *)"" : name.data;
    if (atoms == NULL || name.len > MAX_BYTES) {
        return 0;
    }
    HASH_FIND(hh, atoms->by_name, key, (unsigned)name.len, atom);
    return atom == NULL ? 0 : atom->number;
}

struct span term_atom_name(const struct term_atoms *atoms, uint32_t number) {
    if (atoms == NULL || number == 0 || number > atoms->count) {
        return (struct span){0};
    }
    const struct atom *atom = atoms->by_number[number - 1];
    return span_of(atom->name, atom->len);
}

/* }==== */

/* {==== From external terms =============================================================== */

struct span term_latin1_to_utf8(struct span latin1, uint8_t *out) {
    size_t len = 0;
    for (size_t i = 0; i < latin1.len; i++) {
        uint8_t c = latin1.data[i];
        if (c < 0x80) {
            out[len++] = c;
        } else {
            out[len++] = (uint8_t)(0xC0 | c >> 6);
            out[len++] = (uint8_t)(0x80 | (c & 0x3F));
        }
    }
    return span_of(out, len);
}

bool term_atom_make(struct term_atoms *atoms, struct term_allowance *allowance, struct span name,
                    uint32_t *number, struct err *err) {
    if (allowance != NULL && term_atom_find(atoms, name) == 0) {
        if (allowance->used >= allowance->max) {
            allowance->exceeded(allowance->user);
            return err_set(err, "%u new atoms are all that this handler may make", allowance->max);
        }
        allowance->used++;
    }
    return term_atom_intern(atoms, name, number, err);
}

bool term_atom_take(struct term_atoms *atoms, struct term_allowance *allowance, struct span *in,
                    uint32_t *number, struct err *err) {
    struct span name;
    struct span rest = *in;
    bool latin1;
    uint8_t utf8[2 * MAX_CHARACTERS];
    if (!ext_take_atom(&rest, &name, &latin1)) {
        return err_set(err, "an atom was expected");
    }
    if (latin1 && name.len > MAX_CHARACTERS) {
        return err_set(err, "an atom of %zu characters: the limit is %d", name.len,
                       (int)MAX_CHARACTERS);
    }
    if (latin1) {
        name = term_latin1_to_utf8(name, utf8);
    }
    if (!term_atom_make(atoms, allowance, name, number, err)) {
        return false;
    }
    *in = rest;
    return true;
}

/* }==== */
