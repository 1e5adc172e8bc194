// Apache ZooKeeper's own Java client against a server: prints `ok NAME` or `FAILED NAME: reason` for each check.
// Usage: ClientChecks HOST:PORT BASE, where BASE is a path that does not exist yet.
//        ClientChecks HOST:PORT BASE restart: prints `restart please`, waits for a line on stdin, and goes on.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

public final class ClientChecks {
    private static final int WAIT_SECONDS = 20;
    private static String hosts;
    private static String base;
    private static final List<ZooKeeper> OPEN = new ArrayList<>();
    private static int failures;

    private interface Check {
        void run(String path) throws Exception;
    }

    private interface Call {
        void run() throws Exception;
    }

    /** Collects watch events in order and waits for the session's state. */
    private static final class Events implements Watcher {
        final BlockingQueue<WatchedEvent> nodes = new LinkedBlockingQueue<>();
        final BlockingQueue<KeeperState> states = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() == EventType.None) {
                states.add(event.getState());
            } else {
                nodes.add(event);
            }
        }

        void expect(EventType type, String path) throws Exception {
            WatchedEvent event = nodes.poll(WAIT_SECONDS, TimeUnit.SECONDS);
            that(event != null, "no event, " + type + " " + path + " was due");
            same(type + " " + path, event.getType() + " " + event.getPath());
        }

        void expectState(KeeperState wanted) throws Exception {
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
            while (System.nanoTime() < deadline) {
                KeeperState state = states.poll(1, TimeUnit.SECONDS);
                if (state == wanted) {
                    return;
                }
            }
            throw new AssertionError("state " + wanted + " did not come");
        }

        void expectNone() {
            that(nodes.isEmpty(), "unexpected events " + nodes);
        }
    }

    private static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private static void same(Object wanted, Object got) {
        that(wanted == null ? got == null : wanted.equals(got), "wanted " + wanted + ", got " + got);
    }

    private static void fails(Code code, Call call) throws Exception {
        try {
            call.run();
        } catch (KeeperException error) {
            same(code, error.code());
            return;
        }
        throw new AssertionError("no error, " + code + " was due");
    }

    private static ZooKeeper open(Watcher watcher) throws Exception {
        return open(hosts, 20_000, watcher);
    }

    private static ZooKeeper open(String where, int timeout, Watcher watcher) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(where, timeout, event -> {
            if (event.getState() == KeeperState.SyncConnected && event.getType() == EventType.None) {
                connected.countDown();
            }
            watcher.process(event);
        });
        OPEN.add(zk);
        that(connected.await(WAIT_SECONDS, TimeUnit.SECONDS), "not connected");
        return zk;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String put(ZooKeeper zk, String path, String data) throws Exception {
        return zk.create(path, bytes(data), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void check(String name, Check check) {
        try {
            check.run(base + "/" + name);
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failures++;
            String where = "";
            for (StackTraceElement frame : error.getStackTrace()) {
                if (frame.getClassName().startsWith("ClientChecks") && !frame.getMethodName().matches("that|same|fails")) {
                    where = " (line " + frame.getLineNumber() + ")";
                    break;
                }
            }
            System.out.println("FAILED " + name + ": " + error + where);
        }
        for (ZooKeeper zk : OPEN) {
            try {
                zk.close(2000);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }
        OPEN.clear();
    }

    private static void operations(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        Stat created = new Stat();
        same(path, zk.create(path, bytes("one"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, created));
        Stat stat = new Stat();
        same("one", new String(zk.getData(path, false, stat), StandardCharsets.UTF_8));
        same(created, stat);
        same(0, stat.getVersion());
        Stat changed = zk.setData(path, bytes("three"), 0);
        same(1, changed.getVersion());
        same(5, changed.getDataLength());
        same(changed, zk.exists(path, false));
        put(zk, path + "/b", "");
        put(zk, path + "/a", "");
        List<String> children = zk.getChildren(path, false, stat);
        Collections.sort(children);
        same(Arrays.asList("a", "b"), children);
        same(2, stat.getNumChildren());
        same(2, stat.getCversion());
        same(null, zk.exists(path + "/missing", false));
        zk.delete(path + "/a", 0);
        zk.create(path + "/null", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        same(null, zk.getData(path + "/null", false, stat));
        same(0, stat.getDataLength());
    }

    private static void errors(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        zk.create(path + "/e", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        fails(Code.NODEEXISTS, () -> put(zk, path, ""));
        fails(Code.NONODE, () -> put(zk, path + "/x/y", ""));
        fails(Code.NONODE, () -> zk.getData(path + "/x", false, null));
        fails(Code.NONODE, () -> zk.delete(path + "/x", -1));
        fails(Code.BADVERSION, () -> zk.delete(path, 5));
        fails(Code.BADVERSION, () -> zk.setData(path, bytes(""), 5));
        fails(Code.BADVERSION, () -> zk.setACL(path, Ids.OPEN_ACL_UNSAFE, 5));
        fails(Code.NOTEMPTY, () -> zk.delete(path, -1));
        fails(Code.NOCHILDRENFOREPHEMERALS, () -> put(zk, path + "/e/x", ""));
        fails(Code.INVALIDACL, () -> zk.create(path + "/x", bytes(""), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        fails(Code.BADARGUMENTS, () -> zk.delete("/zookeeper", -1));
        fails(Code.NODEEXISTS, () -> put(zk, "/zookeeper", ""));
        fails(Code.NONODE, () -> zk.getAllChildrenNumber(path + "/x"));
    }

    private static void sequences(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        same(path + "/s0000000000",
            zk.create(path + "/s", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
        same(path + "/s0000000001",
            zk.create(path + "/s", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL));
        zk.delete(path + "/s0000000001", -1);
        same(path + "/0000000002",
            zk.create(path + "/", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
    }

    private static void multi(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        List<OpResult> results = zk.multi(Arrays.asList(
            Op.create(path, bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.create(path + "/c", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
            Op.create(path + "/t", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 60_000),
            Op.create(path + "/s", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL),
            Op.setData(path, bytes("y"), 0),
            Op.check(path, 1),
            Op.delete(path + "/c", 0)));
        same(path, ((OpResult.CreateResult) results.get(0)).getPath());
        same(path + "/c", ((OpResult.CreateResult) results.get(1)).getPath());
        same(path + "/t", ((OpResult.CreateResult) results.get(2)).getPath());
        that(((OpResult.CreateResult) results.get(2)).getStat() != null, "no Stat with a TTL node's result");
        same(path + "/s0000000002", ((OpResult.CreateResult) results.get(3)).getPath());
        same(1, ((OpResult.SetDataResult) results.get(4)).getStat().getVersion());
        that(results.get(5) instanceof OpResult.CheckResult, "check result");
        that(results.get(6) instanceof OpResult.DeleteResult, "delete result");
        same(zk.exists(path, false).getCzxid(), zk.exists(path + "/t", false).getCzxid());
    }

    private static void multiFails(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        try {
            zk.multi(Arrays.asList(
                Op.create(path + "/a", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.check(path, 7),
                Op.setData(path, bytes("z"), -1)));
            throw new AssertionError("no error");
        } catch (KeeperException error) {
            same(Code.BADVERSION, error.code());
            List<Integer> codes = new ArrayList<>();
            for (OpResult result : error.getResults()) {
                codes.add(((OpResult.ErrorResult) result).getErr());
            }
            same(Arrays.asList(0, -103, -2), codes);
        }
        same(null, zk.exists(path + "/a", false));
    }

    private static void multiRead(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "data");
        put(zk, path + "/child", "");
        List<OpResult> results =
            zk.multi(Arrays.asList(Op.getData(path), Op.getChildren(path), Op.getData(path + "/missing")));
        same("data", new String(((OpResult.GetDataResult) results.get(0)).getData(), StandardCharsets.UTF_8));
        same(Arrays.asList("child"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
        same(-101, ((OpResult.ErrorResult) results.get(2)).getErr());
    }

    private static void extendedModes(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        Stat stat = new Stat();
        zk.create(path + "/c", bytes("c"), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER, stat);
        same(0L, stat.getEphemeralOwner());
        zk.create(path + "/c2", bytes("c"), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
        put(zk, path + "/c/child", "");
        zk.create(path + "/t", bytes("t"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat, 60_000);
        same(1, stat.getDataLength());
        same(0L, stat.getEphemeralOwner());
        same(path + "/t0000000003", zk.create(path + "/t", bytes(""), Ids.OPEN_ACL_UNSAFE,
            CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 60_000));
    }

    private static void counts(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        for (String name : Arrays.asList("a", "b")) {
            zk.create(path + "/" + name, bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        }
        zk.create(base + "/outside", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        same(2, zk.getAllChildrenNumber(path));
        same(new TreeSet<>(Arrays.asList(path + "/a", path + "/b")), new TreeSet<>(zk.getEphemerals(path)));
        same(3, zk.getEphemerals().size());
        same(0, open(new Events()).getEphemerals().size());
    }

    private static void whoAmI(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        zk.addAuthInfo("digest", bytes("ann:secret"));
        List<String> names = new ArrayList<>();
        for (ClientInfo info : zk.whoAmI()) {
            names.add(info.getAuthScheme() + ":" + info.getUser());
        }
        Collections.sort(names);
        same(Arrays.asList("digest:ann", "ip:127.0.0.1"), names);
    }

    private static void watches(String path) throws Exception {
        Events events = new Events();
        ZooKeeper zk = open(events);
        ZooKeeper other = open(new Events());
        Events own = new Events();
        same(null, zk.exists(path, own));
        put(other, path, "");
        own.expect(EventType.NodeCreated, path);
        zk.getData(path, true, null);
        zk.getChildren(path, own);
        other.setData(path, bytes("1"), -1);
        events.expect(EventType.NodeDataChanged, path);
        put(other, path + "/x", "");
        own.expect(EventType.NodeChildrenChanged, path);
        other.setData(path, bytes("2"), -1);
        other.delete(path + "/x", -1);
        zk.getData(path, own, null);
        zk.getChildren(path, own);
        other.delete(path, -1);
        own.expect(EventType.NodeDeleted, path);
        zk.exists("/", false);
        own.expectNone();
        events.expectNone();
    }

    private static void persistentWatches(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        ZooKeeper other = open(new Events());
        Events flat = new Events();
        Events deep = new Events();
        put(zk, path, "");
        put(zk, path + "/flat", "");
        put(zk, path + "/deep", "");
        zk.addWatch(path + "/flat", flat, AddWatchMode.PERSISTENT);
        zk.addWatch(path + "/deep", deep, AddWatchMode.PERSISTENT_RECURSIVE);
        for (String top : Arrays.asList("/flat", "/deep")) {
            put(other, path + top + "/a", "");
            put(other, path + top + "/a/b", "");
            other.setData(path + top + "/a/b", bytes("x"), -1);
            other.setData(path + top, bytes("x"), -1);
            other.setData(path + top, bytes("y"), -1);
            other.delete(path + top + "/a/b", -1);
            other.delete(path + top + "/a", -1);
        }
        flat.expect(EventType.NodeChildrenChanged, path + "/flat");
        flat.expect(EventType.NodeDataChanged, path + "/flat");
        flat.expect(EventType.NodeDataChanged, path + "/flat");
        flat.expect(EventType.NodeChildrenChanged, path + "/flat");
        deep.expect(EventType.NodeCreated, path + "/deep/a");
        deep.expect(EventType.NodeCreated, path + "/deep/a/b");
        deep.expect(EventType.NodeDataChanged, path + "/deep/a/b");
        deep.expect(EventType.NodeDataChanged, path + "/deep");
        deep.expect(EventType.NodeDataChanged, path + "/deep");
        deep.expect(EventType.NodeDeleted, path + "/deep/a/b");
        deep.expect(EventType.NodeDeleted, path + "/deep/a");
        flat.expectNone();
        deep.expectNone();
    }

    private static void removeWatches(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        ZooKeeper other = open(new Events());
        put(zk, path, "");
        Events data = new Events();
        Events children = new Events();
        Events always = new Events();
        zk.getData(path, data, null);
        zk.getChildren(path, children);
        zk.addWatch(path, always, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.removeWatches(path, data, WatcherType.Data, false);
        data.expect(EventType.DataWatchRemoved, path);
        zk.removeWatches(path, children, WatcherType.Children, false);
        children.expect(EventType.ChildWatchRemoved, path);
        fails(Code.NOWATCHER, () -> zk.removeWatches(path, data, WatcherType.Data, false));
        other.setData(path, bytes("x"), -1);
        always.expect(EventType.NodeDataChanged, path);
        zk.removeAllWatches(path, WatcherType.Any, false);
        always.expect(EventType.PersistentWatchRemoved, path);
        other.setData(path, bytes("y"), -1);
        zk.exists("/", false);
        data.expectNone();
        children.expectNone();
        always.expectNone();
    }

    private static void sync(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        ZooKeeper other = open(new Events());
        put(zk, path, "0");
        for (int number = 1; number <= 20; number++) {
            other.setData(path, bytes("" + number), -1);
            CountDownLatch synced = new CountDownLatch(1);
            AtomicInteger code = new AtomicInteger(1);
            zk.sync(path, (rc, where, context) -> {
                code.set(rc);
                synced.countDown();
            }, null);
            same("" + number, new String(zk.getData(path, false, null), StandardCharsets.UTF_8));
            that(synced.await(WAIT_SECONDS, TimeUnit.SECONDS), "no answer to sync");
            same(0, code.get());
        }
    }

    private static void asyncOrder(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "0");
        int count = 2000;
        CountDownLatch all = new CountDownLatch(3 * count);
        AtomicInteger next = new AtomicInteger();
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        for (int number = 1; number <= count; number++) {
            int version = number;
            zk.setData(path, bytes("" + number), -1, (rc, where, context, stat) -> {
                if (rc != 0 || stat.getVersion() != version || next.getAndIncrement() != 3 * (version - 1)) {
                    wrong.add("set " + version + " rc " + rc);
                }
                all.countDown();
            }, null);
            zk.getData(path, false, (rc, where, context, data, stat) -> {
                if (rc != 0 || stat.getVersion() != version || next.getAndIncrement() != 3 * (version - 1) + 1) {
                    wrong.add("get " + version + " rc " + rc);
                }
                all.countDown();
            }, null);
            zk.exists(path + "/missing", false, (rc, where, context, stat) -> {
                if (rc != -101 || next.getAndIncrement() != 3 * (version - 1) + 2) {
                    wrong.add("exists " + version + " rc " + rc);
                }
                all.countDown();
            }, null);
        }
        that(all.await(60, TimeUnit.SECONDS), all.getCount() + " of " + 3 * count + " calls not answered");
        same(Collections.emptyList(), wrong);
    }

    private static void acls(String path) throws Exception {
        ZooKeeper owner = open(new Events());
        ZooKeeper stranger = open(new Events());
        owner.addAuthInfo("digest", bytes("ann:secret"));
        owner.create(path, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Stat stat = new Stat();
        List<ACL> acl = owner.getACL(path, stat);
        same(1, acl.size());
        same("digest", acl.get(0).getId().getScheme());
        same(Perms.ALL, acl.get(0).getPerms());
        fails(Code.NOAUTH, () -> stranger.getData(path, false, null));
        fails(Code.NOAUTH, () -> stranger.setData(path, bytes(""), -1));
        fails(Code.NOAUTH, () -> stranger.getChildren(path, false));
        fails(Code.NOAUTH, () -> put(stranger, path + "/x", ""));
        fails(Code.NOAUTH, () -> stranger.setACL(path, Ids.OPEN_ACL_UNSAFE, -1));
        List<ACL> both = new ArrayList<>(acl);
        both.add(new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE));
        both.add(new ACL(Perms.ALL, new Id("ip", "10.0.0.0/8")));
        same(1, owner.setACL(path, both, 0).getAversion());
        same("mine", new String(stranger.getData(path, false, null), StandardCharsets.UTF_8));
        boolean redacted = false;
        for (ACL entry : stranger.getACL(path, stat)) {
            redacted |= entry.getId().equals(new Id("digest", "ann:x"));
        }
        that(redacted, "the digest is not hidden from a stranger");
    }

    private static void authFailure(String path) throws Exception {
        Events events = new Events();
        ZooKeeper zk = open(events);
        zk.addAuthInfo("no-such-scheme", bytes("x"));
        events.expectState(KeeperState.AuthFailed);
        fails(Code.AUTHFAILED, () -> zk.exists("/", false));
    }

    private static void chroot(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        Events events = new Events();
        ZooKeeper inside = open(hosts + path, 20_000, events);
        same("/a", put(inside, "/a", "x"));
        inside.getData("/a", true, null);
        zk.setData(path + "/a", bytes("y"), -1);
        events.expect(EventType.NodeDataChanged, "/a");
        same(Arrays.asList("a"), inside.getChildren("/", false));
        same("/s0000000001", inside.create("/s", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
    }

    private static void sessionMovesAndExpires(String path) throws Exception {
        Events events = new Events();
        ZooKeeper first = open(events);
        first.create(path, bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper second = new ZooKeeper(hosts, 20_000, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        }, first.getSessionId(), first.getSessionPasswd());
        that(connected.await(WAIT_SECONDS, TimeUnit.SECONDS), "the session was not taken over");
        same(first.getSessionId(), second.getSessionId());
        second.close();
        events.expectState(KeeperState.Expired);
        fails(Code.SESSIONEXPIRED, () -> first.exists("/", false));
        same(null, open(new Events()).exists(path, false));
    }

    private static void closedSessionLosesItsEphemerals(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        ZooKeeper other = open(new Events());
        Events events = new Events();
        other.create(path, bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        same(other.getSessionId(), zk.exists(path, events).getEphemeralOwner());
        other.close();
        events.expect(EventType.NodeDeleted, path);
    }

    private static void readOnlyClient(String path) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(hosts, 20_000, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        }, true);
        OPEN.add(zk);
        that(connected.await(WAIT_SECONDS, TimeUnit.SECONDS), "not connected read-write");
        same(path, put(zk, path, ""));
    }

    private static void configAndReconfig(String path) throws Exception {
        Stat stat = new Stat();
        ZooKeeperAdmin admin = new ZooKeeperAdmin(hosts, 20_000, new Events());
        OPEN.add(admin);
        same("", new String(admin.getConfig(false, stat), StandardCharsets.UTF_8));
        fails(Code.RECONFIGDISABLED, () -> admin.reconfigure("server.9=127.0.0.1:2888:3888;2181", null, null, -1, stat));
    }

    private static void manyChildren(String path) throws Exception {
        ZooKeeper zk = open(new Events());
        put(zk, path, "");
        int count = 3000;
        CountDownLatch all = new CountDownLatch(count);
        for (int number = 0; number < count; number++) {
            zk.create(path + "/a-rather-long-name-of-a-child-" + number, null, Ids.OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT, (rc, where, context, name) -> all.countDown(), null);
        }
        that(all.await(60, TimeUnit.SECONDS), "creates not answered");
        same(count, zk.getChildren(path, false).size());
    }

    private static void largestRequest(String path) throws Exception {
        Events events = new Events();
        ZooKeeper zk = open(events);
        byte[] large = new byte[1_000_000];
        Arrays.fill(large, (byte) 7);
        zk.create(path, large, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        that(Arrays.equals(large, zk.getData(path, false, null)), "the data came back changed");
        long session = zk.getSessionId();
        events.states.clear();
        fails(Code.CONNECTIONLOSS, () -> zk.setData(path, new byte[1_100_000], -1));
        events.expectState(KeeperState.SyncConnected);
        same(session, zk.getSessionId());
        same(0, zk.exists(path, false).getVersion());
    }

    private static void restart(String path) throws Exception {
        Events events = new Events();
        ZooKeeper zk = open(events);
        zk.addAuthInfo("digest", bytes("ann:secret"));
        put(zk, path, "before");
        zk.create(path + "/mine", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        zk.create(path + "/locked", bytes(""), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Events once = new Events();
        Events persistent = new Events();
        // A path of its own: up to 3.8 a server keeps one mode only for a path and a connection.
        put(zk, path + "/deep", "");
        zk.addWatch(path + "/deep", persistent, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.getData(path, once, null);
        zk.exists(path + "/later", once);
        zk.getChildren(path, once);
        long session = zk.getSessionId();
        events.states.clear();
        System.out.println("restart please");
        System.out.flush();
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        events.expectState(KeeperState.SyncConnected);
        same(session, zk.getSessionId());
        same(session, zk.exists(path + "/mine", false).getEphemeralOwner());
        zk.setData(path + "/locked", bytes("still mine"), -1);
        put(zk, path + "/deep/child", "");
        persistent.expect(EventType.NodeCreated, path + "/deep/child");
        put(zk, path + "/later", "");
        once.expect(EventType.NodeCreated, path + "/later");
        once.expect(EventType.NodeChildrenChanged, path);
        zk.setData(path, bytes("after"), 0);
        once.expect(EventType.NodeDataChanged, path);
        zk.setData(path + "/deep/child", bytes("again"), 0);
        persistent.expect(EventType.NodeDataChanged, path + "/deep/child");
        once.expectNone();
        persistent.expectNone();
    }

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        base = args[1];
        ZooKeeper zk = open(new Events());
        put(zk, base, "");
        zk.close();
        OPEN.clear();
        if (args.length > 2) {
            check("restart", ClientChecks::restart);
            System.exit(failures);
        }
        check("operations", ClientChecks::operations);
        check("errors", ClientChecks::errors);
        check("sequences", ClientChecks::sequences);
        check("multi", ClientChecks::multi);
        check("multi-fails", ClientChecks::multiFails);
        check("multi-read", ClientChecks::multiRead);
        check("extended-modes", ClientChecks::extendedModes);
        check("counts", ClientChecks::counts);
        check("who-am-i", ClientChecks::whoAmI);
        check("watches", ClientChecks::watches);
        check("persistent-watches", ClientChecks::persistentWatches);
        check("remove-watches", ClientChecks::removeWatches);
        check("sync", ClientChecks::sync);
        check("async-order", ClientChecks::asyncOrder);
        check("acls", ClientChecks::acls);
        check("auth-failure", ClientChecks::authFailure);
        check("chroot", ClientChecks::chroot);
        check("session-moves-and-expires", ClientChecks::sessionMovesAndExpires);
        check("closed-session", ClientChecks::closedSessionLosesItsEphemerals);
        check("read-only-client", ClientChecks::readOnlyClient);
        check("config-and-reconfig", ClientChecks::configAndReconfig);
        check("many-children", ClientChecks::manyChildren);
        check("largest-request", ClientChecks::largestRequest);
        System.exit(failures);
    }
}
