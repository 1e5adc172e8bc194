/* The C client library (libzookeeper_mt) against a server: prints `ok NAME` or `FAILED NAME: reason` for each check.
 * Usage: client_checks HOST:PORT BASE, where BASE is a path that does not exist yet.
 * A check returns normally when it holds and calls `fail` otherwise, which leaves the check.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zookeeper/zookeeper.h>

#define WAIT_SECONDS 20
#define EVENTS_MAX 256

struct event {
    int type;
    int state;
    char path[256];
};

static const char *hosts;
static char base[128];
static jmp_buf leave;
static char reason[512];
static int failures;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct event events[EVENTS_MAX];
static int events_written, events_read;
static int replies;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    longjmp(leave, 1);
}

static void expect(const char *what, int wanted, int got) {
    if (wanted != got) {
        fail("%s: wanted %d, got %d (%s)", what, wanted, got, zerror(got));
    }
}

static struct timespec deadline(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    return until;
}

static void on_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    (void)context;
    pthread_mutex_lock(&lock);
    if (events_written < EVENTS_MAX) {
        struct event *event = &events[events_written++];
        event->type = type;
        event->state = state;
        snprintf(event->path, sizeof event->path, "%s", path ? path : "");
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void expect_event(int type, const char *path) {
    struct timespec until = deadline();
    struct event event = {0, 0, ""};
    int late = 0;
    pthread_mutex_lock(&lock);
    while (events_read == events_written && !late) {
        late = pthread_cond_timedwait(&changed, &lock, &until) != 0;
    }
    if (!late) {
        event = events[events_read++];
    }
    pthread_mutex_unlock(&lock);
    if (late) {
        fail("no event, type %d of %s was due", type, path);
    }
    if (event.type != type || strcmp(event.path, path) != 0) {
        fail("event of type %d of %s, but type %d of %s was due", event.type, event.path, type, path);
    }
}

static void expect_state(zhandle_t *zh, int state) {
    struct timespec pause = {0, 10 * 1000 * 1000};
    for (int turn = 0; turn < WAIT_SECONDS * 100; turn++) {
        if (zoo_state(zh) == state) {
            return;
        }
        nanosleep(&pause, NULL);
    }
    fail("state %d, but %d was due", zoo_state(zh), state);
}

static void session_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    (void)type;
    (void)state;
    (void)path;
    (void)context;
}

static zhandle_t *open_session(const char *where, const clientid_t *id) {
    zhandle_t *zh = zookeeper_init(where, session_event, 20000, id, NULL, 0);
    if (zh == NULL) {
        fail("zookeeper_init failed");
    }
    expect_state(zh, ZOO_CONNECTED_STATE);
    return zh;
}

static void put(zhandle_t *zh, const char *path, const char *data) {
    expect(path, ZOK, zoo_create(zh, path, data, (int)strlen(data), &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
}

static char *join(const char *path, const char *name) {
    static char joined[8][256];
    static int turn;
    char *target = joined[turn++ % 8];
    snprintf(target, 256, "%s%s", path, name);
    return target;
}

static void operations(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    char name[256], data[64];
    int length = sizeof data;
    struct Stat stat, other;
    struct String_vector children = {0, NULL};
    expect("create2", ZOK,
           zoo_create2(zh, path, "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, name, sizeof name, &stat));
    if (strcmp(name, path) != 0) {
        fail("created %s", name);
    }
    expect("get", ZOK, zoo_get(zh, path, 0, data, &length, &other));
    expect("length", 3, length);
    if (stat.czxid != other.czxid || stat.mzxid != other.mzxid || stat.pzxid != other.pzxid ||
        stat.ctime != other.ctime || stat.mtime != other.mtime || other.dataLength != 3) {
        fail("the Stat of get differs from the Stat of create2");
    }
    expect("set2", ZOK, zoo_set2(zh, path, "three", 5, 0, &stat));
    expect("version", 1, stat.version);
    expect("dataLength", 5, stat.dataLength);
    put(zh, join(path, "/a"), "");
    put(zh, join(path, "/b"), "");
    expect("get_children2", ZOK, zoo_get_children2(zh, path, 0, &children, &stat));
    expect("children", 2, children.count);
    expect("numChildren", 2, stat.numChildren);
    deallocate_String_vector(&children);
    expect("exists", ZNONODE, zoo_exists(zh, join(path, "/x"), 0, &stat));
    expect("null data", ZOK, zoo_create(zh, join(path, "/null"), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    length = sizeof data;
    expect("get null", ZOK, zoo_get(zh, join(path, "/null"), 0, data, &length, &stat));
    expect("null length", -1, length);
    expect("delete", ZOK, zoo_delete(zh, join(path, "/a"), 0));
    expect("close", ZOK, zookeeper_close(zh));
}

static void errors(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    struct Stat stat;
    char data[8];
    int length = sizeof data;
    struct ACL_vector none = {0, NULL};
    put(zh, path, "");
    expect("ephemeral", ZOK,
           zoo_create(zh, join(path, "/e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    expect("create again", ZNODEEXISTS, zoo_create(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    expect("no parent", ZNONODE, zoo_create(zh, join(path, "/x/y"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    expect("child of ephemeral", ZNOCHILDRENFOREPHEMERALS,
           zoo_create(zh, join(path, "/e/x"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    expect("acl", ZINVALIDACL, zoo_create(zh, join(path, "/x"), "", 0, &none, 0, NULL, 0));
    expect("creator acl", ZINVALIDACL, zoo_create(zh, join(path, "/x"), "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    expect("get", ZNONODE, zoo_get(zh, join(path, "/x"), 0, data, &length, &stat));
    expect("set", ZBADVERSION, zoo_set(zh, path, "", 0, 7));
    expect("delete", ZBADVERSION, zoo_delete(zh, path, 7));
    expect("not empty", ZNOTEMPTY, zoo_delete(zh, path, -1));
    expect("reserved", ZBADARGUMENTS, zoo_delete(zh, "/zookeeper", -1));
    zookeeper_close(zh);
}

static void modes(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    char name[256];
    struct Stat stat;
    put(zh, path, "");
    expect("sequence", ZOK,
           zoo_create(zh, join(path, "/s"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, name, sizeof name));
    if (strcmp(name, join(path, "/s0000000000")) != 0) {
        fail("created %s", name);
    }
    expect("ephemeral sequence", ZOK,
           zoo_create2(zh, join(path, "/s"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, name, sizeof name,
                       &stat));
    if (strcmp(name, join(path, "/s0000000001")) != 0) {
        fail("created %s", name);
    }
    if (stat.ephemeralOwner != zoo_client_id(zh)->client_id) {
        fail("the ephemeral's owner is not this session");
    }
    expect("container", ZOK,
           zoo_create2(zh, join(path, "/c"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, name, sizeof name, &stat));
    expect("ttl", ZOK,
           zoo_create2_ttl(zh, join(path, "/t"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 60000, name,
                           sizeof name, &stat));
    expect("ttl sequence", ZOK,
           zoo_create_ttl(zh, join(path, "/t"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 60000,
                          name, sizeof name));
    if (strcmp(name, join(path, "/t0000000004")) != 0) {
        fail("created %s", name);
    }
    zookeeper_close(zh);
}

static void watches(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    zhandle_t *other = open_session(hosts, NULL);
    struct Stat stat;
    struct String_vector children = {0, NULL};
    char data[8];
    int length = sizeof data;
    expect("wexists", ZNONODE, zoo_wexists(zh, path, on_event, NULL, &stat));
    put(other, path, "");
    expect_event(ZOO_CREATED_EVENT, path);
    expect("wget", ZOK, zoo_wget(zh, path, on_event, NULL, data, &length, &stat));
    expect("set", ZOK, zoo_set(other, path, "1", 1, -1));
    expect_event(ZOO_CHANGED_EVENT, path);
    expect("wget_children", ZOK, zoo_wget_children(zh, path, on_event, NULL, &children));
    deallocate_String_vector(&children);
    put(other, join(path, "/x"), "");
    expect_event(ZOO_CHILD_EVENT, path);
    expect("wget_children", ZOK, zoo_wget_children(zh, join(path, "/x"), on_event, NULL, &children));
    deallocate_String_vector(&children);
    expect("delete", ZOK, zoo_delete(other, join(path, "/x"), -1));
    expect_event(ZOO_DELETED_EVENT, join(path, "/x"));
    length = sizeof data;
    expect("wget", ZOK, zoo_wget(zh, path, on_event, NULL, data, &length, &stat));
    expect("remove_watches", ZOK, zoo_remove_watches(zh, path, ZWATCHTYPE_DATA, on_event, NULL, 0));
    expect("remove again", ZNOWATCHER, zoo_remove_watches(zh, path, ZWATCHTYPE_DATA, on_event, NULL, 0));
    zookeeper_close(other);
    zookeeper_close(zh);
}

static void multi(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    char first[256], second[256];
    struct Stat stat;
    char *child = join(path, "/s");
    zoo_create_op_init(&ops[0], path, "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, first, sizeof first);
    zoo_create_op_init(&ops[1], child, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, second, sizeof second);
    zoo_set_op_init(&ops[2], path, "y", 1, 0, &stat);
    zoo_check_op_init(&ops[3], path, 1);
    zoo_delete_op_init(&ops[4], join(path, "/s0000000000"), 0);
    expect("multi", ZOK, zoo_multi(zh, 5, ops, results));
    for (int index = 0; index < 5; index++) {
        expect("result", ZOK, results[index].err);
    }
    if (strcmp(second, join(path, "/s0000000000")) != 0) {
        fail("created %s", second);
    }
    expect("version", 1, stat.version);
    zoo_create_op_init(&ops[0], join(path, "/a"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, first, sizeof first);
    zoo_check_op_init(&ops[1], path, 9);
    zoo_delete_op_init(&ops[2], path, -1);
    expect("failed multi", ZBADVERSION, zoo_multi(zh, 3, ops, results));
    expect("before", ZOK, results[0].err);
    expect("failing", ZBADVERSION, results[1].err);
    expect("after", ZRUNTIMEINCONSISTENCY, results[2].err);
    expect("nothing done", ZNONODE, zoo_exists(zh, join(path, "/a"), 0, &stat));
    zookeeper_close(zh);
}

static void auth_done(int code, const void *data) {
    (void)data;
    pthread_mutex_lock(&lock);
    replies = code == ZOK ? 1 : code;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void acls(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    zhandle_t *stranger = open_session(hosts, NULL);
    struct ACL_vector acl;
    struct Stat stat;
    char data[8];
    int length = sizeof data;
    struct timespec until = deadline();
    replies = 0;
    expect("add_auth", ZOK, zoo_add_auth(zh, "digest", "ann:secret", 10, auth_done, NULL));
    pthread_mutex_lock(&lock);
    while (replies == 0 && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    pthread_mutex_unlock(&lock);
    expect("auth", 1, replies);
    expect("create", ZOK, zoo_create(zh, path, "m", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    expect("get_acl", ZOK, zoo_get_acl(zh, path, &acl, &stat));
    expect("entries", 1, acl.count);
    if (strcmp(acl.data[0].id.scheme, "digest") != 0) {
        fail("scheme %s", acl.data[0].id.scheme);
    }
    deallocate_ACL_vector(&acl);
    expect("stranger gets", ZNOAUTH, zoo_get(stranger, path, 0, data, &length, &stat));
    expect("stranger sets", ZNOAUTH, zoo_set(stranger, path, "", 0, -1));
    expect("set_acl", ZOK, zoo_set_acl(zh, path, 0, &ZOO_OPEN_ACL_UNSAFE));
    expect("stranger gets", ZOK, zoo_get(stranger, path, 0, data, &length, &stat));
    expect("aversion", 1, stat.aversion);
    zookeeper_close(stranger);
    zookeeper_close(zh);
}

static void session_is_taken_over(const char *path) {
    zhandle_t *first = open_session(hosts, NULL);
    clientid_t id = *zoo_client_id(first);
    struct Stat stat;
    expect("create", ZOK, zoo_create(first, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    zhandle_t *second = open_session(hosts, &id);
    if (zoo_client_id(second)->client_id != id.client_id) {
        fail("another session");
    }
    expect("exists", ZOK, zoo_exists(second, path, 0, &stat));
    expect("close", ZOK, zookeeper_close(second));
    expect_state(first, ZOO_EXPIRED_SESSION_STATE);
    zookeeper_close(first);
    zhandle_t *third = open_session(hosts, NULL);
    expect("ephemeral", ZNONODE, zoo_exists(third, path, 0, &stat));
    zookeeper_close(third);
}

static void chroot_path(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    struct Stat stat;
    char name[256];
    put(zh, path, "");
    zhandle_t *inside = open_session(join(hosts, path), NULL);
    expect("create", ZOK, zoo_create(inside, "/a", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, name, sizeof name));
    if (strcmp(name, "/a") != 0) {
        fail("created %s", name);
    }
    expect("exists", ZOK, zoo_exists(zh, join(path, "/a"), 0, &stat));
    zookeeper_close(inside);
    zookeeper_close(zh);
}

struct order {
    int next;
    int wrong;
};

static struct order order;

static void in_order(int code, const struct Stat *stat, const void *data) {
    pthread_mutex_lock(&lock);
    int number = (int)(long)data;
    if (code != ZOK || stat->version != number || order.next + 1 != number) {
        order.wrong++;
    }
    order.next = number;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void async_order(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    struct timespec until = deadline();
    int count = 2000;
    put(zh, path, "");
    order.next = order.wrong = 0;
    for (long number = 1; number <= count; number++) {
        expect("aset", ZOK, zoo_aset(zh, path, "x", 1, -1, in_order, (const void *)number));
    }
    pthread_mutex_lock(&lock);
    while (order.next < count && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    pthread_mutex_unlock(&lock);
    expect("answered", count, order.next);
    expect("out of order", 0, order.wrong);
    zookeeper_close(zh);
}

static void sync_done(int code, const char *value, const void *data) {
    (void)value;
    auth_done(code, data);
}

static void sync_and_config(const char *path) {
    zhandle_t *zh = open_session(hosts, NULL);
    struct timespec until = deadline();
    struct Stat stat;
    char data[1024];
    int length = sizeof data;
    replies = 0;
    put(zh, path, "");
    expect("async", ZOK, zoo_async(zh, path, sync_done, NULL));
    pthread_mutex_lock(&lock);
    while (replies == 0 && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    pthread_mutex_unlock(&lock);
    expect("sync", 1, replies);
    expect("getconfig", ZOK, zoo_getconfig(zh, 0, data, &length, &stat));
    length = sizeof data;
    expect("reconfig", ZRECONFIGDISABLED,
           zoo_reconfig(zh, "server.9=127.0.0.1:2888:3888;2181", NULL, NULL, -1, data, &length, &stat));
    zookeeper_close(zh);
}

static void check(const char *name, void (*run)(const char *)) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s", base, name);
    pthread_mutex_lock(&lock);
    events_read = events_written = 0;
    pthread_mutex_unlock(&lock);
    if (setjmp(leave) == 0) {
        run(path);
        printf("ok %s\n", name);
    } else {
        failures++;
        printf("FAILED %s: %s\n", name, reason);
    }
    fflush(stdout);
}

static void make_base(const char *unused) {
    (void)unused;
    zhandle_t *zh = open_session(hosts, NULL);
    put(zh, base, "");
    zookeeper_close(zh);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s HOST:PORT BASE\n", arguments[0]);
        return 2;
    }
    hosts = arguments[1];
    snprintf(base, sizeof base, "%s", arguments[2]);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    check("base", make_base);
    check("operations", operations);
    check("errors", errors);
    check("modes", modes);
    check("watches", watches);
    check("multi", multi);
    check("acls", acls);
    check("session-is-taken-over", session_is_taken_over);
    check("chroot", chroot_path);
    check("async-order", async_order);
    check("sync-and-config", sync_and_config);
    return failures != 0;
}
