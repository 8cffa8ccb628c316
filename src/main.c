/* The command line: one function a subcommand. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "attach/attach.h"
#include "jail/jail.h"
#include "run.h"
#include "version.h"

static const char usage[] =
    "lunode HOST ALIVE NODE CREATION     as a Bundlex CNode; the cookie in BUNDLEX_ERLANG_COOKIE,\n"
    "                                    the scripts in LUNODE_HANDLERS, the configuration in "
    "LUNODE_CONFIG\n"
    "lunode start --name NAME[@HOST] [--cookie-file F] [--connect NODE]... [--config F] [PATH...]\n"
    "                                    a node on its own; PATH is a script or a folder of them\n"
    "lunode check PATH...                load scripts without a node, and tell what is wrong\n"
    "lunode attach NAME[@HOST] [--cookie-file F]\n"
    "                                    a Lua prompt inside a running node\n"
    "lunode --help | --version\n";

static int wrong_use(const char *what, const char *which) {
    (void)fprintf(stderr, "lunode: %s%s; see lunode --help\n", what, which);
    return 2;
}

/* The cookie leaves the environment, where /proc/PID/environ would show it. */
static char *cookie_from_environment(void) {
    char *value = getenv("BUNDLEX_ERLANG_COOKIE");
    char *copy = value == NULL ? NULL : strdup(value);
    if (value != NULL) {
        explicit_bzero(value, strlen(value));
        unsetenv("BUNDLEX_ERLANG_COOKIE");
    }
    return copy;
}

/* The first line of a file; NULL when it can't be read. */
static char *cookie_from_file(const char *path) {
    char line[512] = "";
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return NULL;
    }
    char *got = fgets(line, sizeof line, file);
    (void)fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    char *copy = got == NULL || line[0] == '\0' ? NULL : strdup(line);
    explicit_bzero(line, sizeof line);
    return copy;
}

static char *cookie_from_home(void) {
    char path[4096];
    const char *home = getenv("HOME");
    (void)snprintf(path, sizeof path, "%s/.erlang.cookie", home == NULL ? "" : home);
    return cookie_from_file(path);
}

/* From the file that was named, else the environment, else ~/.erlang.cookie. */
static char *find_cookie(const char *file) {
    char *cookie = cookie_from_environment(); /* leaves it in any case */
    if (file != NULL) {
        free(cookie);
        return cookie_from_file(file);
    }
    return cookie == NULL ? cookie_from_home() : cookie;
}

/* An empty variable counts as one that is not set. */
static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

/* This machine's short name. */
static bool own_host(char *host, size_t size) {
    if (gethostname(host, size) != 0) {
        return false;
    }
    host[size - 1] = '\0';
    host[strcspn(host, ".")] = '\0';
    return true;
}

/* Tells this run of a node from earlier ones under its name. A process id would not: in a
 * container it is the same at every start. */
static uint32_t random_creation(void) {
    uint32_t creation = (uint32_t)getpid();
    (void)uv_random(NULL, NULL, &creation, sizeof creation, 0, NULL);
    return creation;
}

static int no_cookie(const char *command, const char *file) {
    char what[64];
    (void)snprintf(what, sizeof what, "%s: no cookie in ", command);
    return wrong_use(what, file ? file : "BUNDLEX_ERLANG_COOKIE or ~/.erlang.cookie");
}

/* {==== lunode HOST ALIVE NODE CREATION =================================================== */

static int bundlex(char **args) {
    char *end;
    unsigned long creation = strtoul(args[3], &end, 10);
    if (*args[3] == '\0' || *end != '\0' || creation > UINT32_MAX) {
        return wrong_use("CREATION is a number, not ", args[3]);
    }
    struct run_config config = {.host = args[0],
                                .alive = args[1],
                                .creation = (uint32_t)creation,
                                .cookie = cookie_from_environment(),
                                .bundlex = true,
                                .owner = setting("LUNODE_OWNER"),
                                .config_file = setting("LUNODE_CONFIG")};
    config.paths[0] = setting("LUNODE_HANDLERS");
    config.path_count = config.paths[0] != NULL;
    int status = run_node(&config);
    free(config.cookie);
    return status;
}

/* }==== */

/* {==== lunode start ====================================================================== */

/* NAME[@HOST]: without a host it is this machine's. */
static bool split_name(char *name, struct run_config *config, char *host, size_t size) {
    char *at = strchr(name, '@');
    config->alive = name;
    config->host = host;
    if (at != NULL) {
        *at = '\0';
        config->host = at + 1;
    } else if (!own_host(host, size)) {
        return false;
    }
    return config->alive[0] != '\0' && config->host[0] != '\0';
}

struct start_options {
    char *name;
    const char *cookie_file;
    struct run_config *config;
};

/* 0, or the status of a wrong use. */
static int read_options(int argc, char **argv, struct start_options *options) {
    static const struct option known[] = {{"name", required_argument, NULL, 'n'},
                                          {"cookie-file", required_argument, NULL, 'f'},
                                          {"connect", required_argument, NULL, 'c'},
                                          {"config", required_argument, NULL, 'o'},
                                          /* or it would be taken for short for cookie-file */
                                          {"cookie", no_argument, NULL, '?'},
                                          {NULL, 0, NULL, 0}};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'n') {
            options->name = optarg;
        } else if (option == 'f') {
            options->cookie_file = optarg;
        } else if (option == 'o') {
            options->config->config_file = optarg;
        } else if (option == 'c' && options->config->connect_count < RUN_MAX_PATHS) {
            options->config->connect[options->config->connect_count++] = optarg;
        } else {
            return wrong_use("start: unknown option, or one without its value: ", argv[optind - 1]);
        }
    }
    if (options->name == NULL) {
        return wrong_use("start: --name is missing", "");
    }
    return 0;
}

static int start(int argc, char **argv) {
    char host[256];
    struct run_config config = {.creation = random_creation()};
    struct start_options options = {.config = &config};
    int wrong = read_options(argc, argv, &options);
    if (wrong != 0) {
        return wrong;
    }
    if (!split_name(options.name, &config, host, sizeof host)) {
        return wrong_use("start: --name is NAME or NAME@HOST, none of them empty", "");
    }
    for (int i = optind; i < argc; i++) {
        if (config.path_count == RUN_MAX_PATHS) {
            return wrong_use("start: too many paths: name their folder instead", "");
        }
        config.paths[config.path_count++] = argv[i];
    }
    config.cookie = find_cookie(options.cookie_file);
    if (config.cookie == NULL) {
        return no_cookie("start", options.cookie_file);
    }
    int status = run_node(&config);
    free(config.cookie);
    return status;
}

/* }==== */

static int check(int argc, char **argv) {
    if (argc < 2 || argc - 1 > RUN_MAX_PATHS) {
        return wrong_use("check: name the scripts or folders to check", "");
    }
    return run_check((const char *const *)(argv + 1), argc - 1);
}

/* {==== lunode attach ===================================================================== */

/* 0, or the status of a wrong use. */
static int read_attach_options(int argc, char **argv, const char **cookie_file) {
    static const struct option known[] = {{"cookie-file", required_argument, NULL, 'f'},
                                          /* or it would be taken for short for cookie-file */
                                          {"cookie", no_argument, NULL, '?'},
                                          {NULL, 0, NULL, 0}};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option != 'f') {
            return wrong_use("attach: unknown option, or one without its value: ",
                             argv[optind - 1]);
        }
        *cookie_file = optarg;
    }
    return optind == argc - 1 ? 0 : wrong_use("attach: name one node", "");
}

static int attach(int argc, char **argv) {
    char host[256];
    char node[1024];
    const char *cookie_file = NULL;
    int wrong = read_attach_options(argc, argv, &cookie_file);
    if (wrong != 0) {
        return wrong;
    }
    if (!own_host(host, sizeof host)) {
        return wrong_use("attach: this machine has no name", "");
    }
    const char *name = argv[optind];
    bool whole = strchr(name, '@') != NULL;
    int len = snprintf(node, sizeof node, "%s%s%s", name, whole ? "" : "@", whole ? "" : host);
    if (len < 0 || (size_t)len >= sizeof node) {
        return wrong_use("attach: the name of the node is too long", "");
    }
    struct attach_config config = {.node = node,
                                   .host = host,
                                   .cookie = find_cookie(cookie_file),
                                   .creation = random_creation()};
    if (config.cookie == NULL) {
        return no_cookie("attach", cookie_file);
    }
    int status = attach_run(&config);
    free(config.cookie);
    return status;
}

/* }==== */

/* Where standard input, output or error is closed, the first file or socket would get its number,
 * and what is written there. /dev/null takes its place; a closed output stays one that cannot be
 * written to. */
static bool fill_standard(void) {
    static const int modes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv) {
    const char *first = argc > 1 ? argv[1] : "";
    if (!fill_standard()) {
        return 1;
    }
    if (strcmp(first, "--help") == 0 && argc == 2) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (strcmp(first, "--version") == 0 && argc == 2) {
        puts("lunode " LUNODE_VERSION);
        return 0;
    }
    if (strcmp(first, "start") == 0) {
        return start(argc - 1, argv + 1);
    }
    if (strcmp(first, "check") == 0) {
        return check(argc - 1, argv + 1);
    }
    if (strcmp(first, "worker") == 0) {
        return jail_worker(argc - 2, argv + 2);
    }
    if (strcmp(first, "attach") == 0) {
        return attach(argc - 1, argv + 1);
    }
    if (argc == 5 && first[0] != '-') {
        return bundlex(argv + 1);
    }
    return argc == 1 ? wrong_use("no arguments", "") : wrong_use("unknown use: ", first);
}
