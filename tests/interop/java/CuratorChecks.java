// Apache Curator against a server: prints `ok NAME` or `FAILED NAME: reason` for each check.
// Usage: CuratorChecks HOST:PORT BASE, where BASE is a path that does not exist yet.

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

public final class CuratorChecks {
    private static final int WAIT_SECONDS = 20;
    private static final byte[] NOTHING = new byte[0];
    private static String hosts;
    private static String base;
    private static int failures;
    private static final List<AutoCloseable> OPEN = new ArrayList<>();
    private static final ExecutorService THREADS = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });

    private interface Check {
        void run(String path) throws Exception;
    }

    private static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private static void same(Object wanted, Object got) {
        that(wanted.equals(got), "wanted " + wanted + ", got " + got);
    }

    private static void wait(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_SECONDS);
        while (!condition.call()) {
            that(System.nanoTime() < deadline, "waited too long for " + what);
            Thread.sleep(10);
        }
    }

    private static <T> T in(Future<T> future) throws Exception {
        return future.get(WAIT_SECONDS, TimeUnit.SECONDS);
    }

    private static <T extends AutoCloseable> T keep(T closeable) {
        OPEN.add(closeable);
        return closeable;
    }

    private static CuratorFramework open() throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(
            hosts, 20_000, 10_000, new ExponentialBackoffRetry(100, 5));
        client.start();
        that(client.blockUntilConnected(WAIT_SECONDS, TimeUnit.SECONDS), "not connected");
        return keep(client);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }

    private static void check(String name, Check check) {
        try {
            check.run(base + "/" + name);
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failures++;
            String where = "";
            for (StackTraceElement frame : error.getStackTrace()) {
                if (frame.getClassName().startsWith("CuratorChecks")
                    && !frame.getMethodName().matches("that|same|wait|in")) {
                    where = " (line " + frame.getLineNumber() + ")";
                    break;
                }
            }
            System.out.println("FAILED " + name + ": " + error + where);
        }
        Collections.reverse(OPEN);
        for (AutoCloseable closeable : OPEN) {
            try {
                closeable.close();
            } catch (Exception error) {
                // Some recipes refuse to be closed twice; the check is over.
            }
        }
        OPEN.clear();
    }

    private static void framework(String path) throws Exception {
        CuratorFramework client = open();
        same(path + "/a/b", client.create().creatingParentsIfNeeded().forPath(path + "/a/b", bytes("x")));
        same(path + "/c/d", client.create().creatingParentContainersIfNeeded().forPath(path + "/c/d"));
        Stat stat = new Stat();
        same("x", text(client.getData().storingStatIn(stat).forPath(path + "/a/b")));
        same(1, client.setData().withVersion(0).forPath(path + "/a/b", bytes("y")).getVersion());
        same(Arrays.asList("b"), client.getChildren().forPath(path + "/a"));
        String guarded = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
            .forPath(path + "/lock-");
        that(guarded.matches(path + "/_c_[0-9a-f-]{36}-lock-0000000002"), guarded);
        same(path + "/a/b", client.create().orSetData().forPath(path + "/a/b", bytes("z")));
        same("z", text(client.getData().forPath(path + "/a/b")));
        client.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(path + "/ttl", bytes("t"));
        CountDownLatch answered = new CountDownLatch(1);
        client.getData().inBackground((who, event) -> {
            if (event.getResultCode() == 0 && text(event.getData()).equals("z")) {
                answered.countDown();
            }
        }).forPath(path + "/a/b");
        that(answered.await(WAIT_SECONDS, TimeUnit.SECONDS), "no background answer");
        client.sync().forPath(path);
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath(path);
        that(client.checkExists().forPath(path) == null, "still there");
        CuratorFramework inside = client.usingNamespace(base.substring(1) + "/space");
        inside.create().forPath("/x", bytes("in"));
        same("in", text(client.getData().forPath(base + "/space/x")));
    }

    private static void transactions(String path) throws Exception {
        CuratorFramework client = open();
        List<CuratorTransactionResult> results = client.transaction().forOperations(
            client.transactionOp().create().forPath(path, bytes("1")),
            client.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(path + "/s"),
            client.transactionOp().setData().withVersion(0).forPath(path, bytes("2")),
            client.transactionOp().check().withVersion(1).forPath(path),
            client.transactionOp().delete().forPath(path + "/s0000000000"));
        same(5, results.size());
        same(path + "/s0000000000", results.get(1).getResultPath());
        same(1, results.get(2).getResultStat().getVersion());
        try {
            client.transaction().forOperations(
                client.transactionOp().create().forPath(path + "/never"),
                client.transactionOp().check().withVersion(9).forPath(path));
            throw new AssertionError("no error");
        } catch (KeeperException.BadVersionException expected) {
            that(client.checkExists().forPath(path + "/never") == null, "half a transaction");
        }
    }

    private static void mutex(String path) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger done = new AtomicInteger();
        List<Future<?>> workers = new ArrayList<>();
        for (int worker = 0; worker < 4; worker++) {
            InterProcessMutex mutex = new InterProcessMutex(open(), path);
            workers.add(THREADS.submit(() -> {
                for (int turn = 0; turn < 5; turn++) {
                    mutex.acquire();
                    mutex.acquire();
                    that(inside.incrementAndGet() == 1, "two holders");
                    done.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> worker : workers) {
            in(worker);
        }
        same(20, done.get());
        InterProcessMutex holder = new InterProcessMutex(open(), path);
        holder.acquire();
        InterProcessMutex other = new InterProcessMutex(open(), path);
        that(!other.acquire(200, TimeUnit.MILLISECONDS), "acquired a held lock");
        same(1, holder.getParticipantNodes().size());
        holder.release();
        that(other.acquire(WAIT_SECONDS, TimeUnit.SECONDS), "did not get a free lock");
        other.release();
    }

    private static void readWriteLock(String path) throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(open(), path);
        InterProcessReadWriteLock other = new InterProcessReadWriteLock(open(), path);
        one.readLock().acquire();
        that(other.readLock().acquire(WAIT_SECONDS, TimeUnit.SECONDS), "readers exclude each other");
        that(!other.writeLock().acquire(100, TimeUnit.MILLISECONDS), "a writer beside readers");
        other.readLock().release();
        one.readLock().release();
        that(other.writeLock().acquire(WAIT_SECONDS, TimeUnit.SECONDS), "no write lock");
        that(!one.readLock().acquire(100, TimeUnit.MILLISECONDS), "a reader beside a writer");
        other.writeLock().release();
    }

    private static void multiLock(String path) throws Exception {
        CuratorFramework client = open();
        InterProcessMultiLock both = new InterProcessMultiLock(client, Arrays.asList(path + "/a", path + "/b"));
        both.acquire();
        InterProcessSemaphoreMutex single = new InterProcessSemaphoreMutex(open(), path + "/c");
        single.acquire();
        InterProcessMutex other = new InterProcessMutex(open(), path + "/b");
        that(!other.acquire(100, TimeUnit.MILLISECONDS), "acquired a held lock");
        both.release();
        that(other.acquire(WAIT_SECONDS, TimeUnit.SECONDS), "did not get a free lock");
        other.release();
        single.release();
    }

    private static void semaphore(String path) throws Exception {
        InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(open(), path, 3);
        InterProcessSemaphoreV2 other = new InterProcessSemaphoreV2(open(), path, 3);
        List<Lease> leases = new ArrayList<>(one.acquire(2));
        leases.add(other.acquire());
        that(other.acquire(100, TimeUnit.MILLISECONDS) == null, "a fourth lease");
        same(3, one.getParticipantNodes().size());
        Future<Lease> waiting = THREADS.submit(() -> other.acquire());
        one.returnLease(leases.remove(0));
        other.returnLease(in(waiting));
        one.returnLease(leases.remove(0));
        other.returnLease(leases.remove(0));
    }

    private static void leaderLatch(String path) throws Exception {
        LeaderLatch one = keep(new LeaderLatch(open(), path, "one"));
        one.start();
        that(one.await(WAIT_SECONDS, TimeUnit.SECONDS), "nobody leads");
        LeaderLatch other = keep(new LeaderLatch(open(), path, "other"));
        other.start();
        wait("both participants", () -> other.getParticipants().size() == 2);
        same("one", other.getLeader().getId());
        that(!other.hasLeadership(), "two leaders");
        one.close();
        that(other.await(WAIT_SECONDS, TimeUnit.SECONDS), "leadership did not pass on");
    }

    private static void leaderSelector(String path) throws Exception {
        List<String> led = Collections.synchronizedList(new ArrayList<>());
        List<LeaderSelector> selectors = new ArrayList<>();
        for (String name : Arrays.asList("a", "b", "c")) {
            LeaderSelector selector = keep(new LeaderSelector(open(), path, new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) {
                    led.add(name);
                }
            }));
            selector.setId(name);
            selector.autoRequeue();
            selector.start();
            selectors.add(selector);
        }
        wait("each to have led twice", () -> Collections.frequency(led, "a") > 1
            && Collections.frequency(led, "b") > 1 && Collections.frequency(led, "c") > 1);
    }

    private static void atomicLong(String path) throws Exception {
        List<Future<?>> workers = new ArrayList<>();
        for (int worker = 0; worker < 3; worker++) {
            DistributedAtomicLong number = new DistributedAtomicLong(open(), path, new RetryNTimes(200, 2));
            workers.add(THREADS.submit(() -> {
                for (int turn = 0; turn < 20; turn++) {
                    that(number.increment().succeeded(), "increment failed");
                }
                return null;
            }));
        }
        for (Future<?> worker : workers) {
            in(worker);
        }
        DistributedAtomicLong number = new DistributedAtomicLong(open(), path, new RetryNTimes(10, 10));
        same(60L, number.get().postValue());
        AtomicValue<Long> changed = number.compareAndSet(60L, 7L);
        that(changed.succeeded(), "compareAndSet failed");
        that(!number.compareAndSet(60L, 8L).succeeded(), "compareAndSet of an old value");
        same(5L, number.subtract(2L).postValue());
    }

    private static void sharedCount(String path) throws Exception {
        SharedCount one = keep(new SharedCount(open(), path, 5));
        SharedCount other = keep(new SharedCount(open(), path, 0));
        one.start();
        other.start();
        same(5, other.getCount());
        that(one.trySetCount(one.getVersionedValue(), 9), "not set");
        wait("the other to see it", () -> other.getCount() == 9);
    }

    private static void pathChildrenCache(String path) throws Exception {
        CuratorFramework client = open();
        client.create().forPath(path);
        client.create().forPath(path + "/a", bytes("1"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        PathChildrenCache cache = keep(new PathChildrenCache(open(), path, true));
        cache.getListenable().addListener((who, event) ->
            events.add(event.getType() + " " + (event.getData() == null ? "" : event.getData().getPath())));
        // Not BUILD_INITIAL_CACHE: a CONNECTED that reaches its listeners late makes that tell of what was there as added.
        cache.start(PathChildrenCache.StartMode.POST_INITIALIZED_EVENT);
        same("CHILD_ADDED " + path + "/a", next(events));
        same("INITIALIZED ", next(events));
        same(1, cache.getCurrentData().size());
        client.create().forPath(path + "/b", bytes("2"));
        same("CHILD_ADDED " + path + "/b", next(events));
        client.setData().forPath(path + "/a", bytes("3"));
        same("CHILD_UPDATED " + path + "/a", next(events));
        same("3", text(cache.getCurrentData(path + "/a").getData()));
        client.delete().forPath(path + "/b");
        same("CHILD_REMOVED " + path + "/b", next(events));
    }

    private static String next(BlockingQueue<String> events) throws Exception {
        String event = events.poll(WAIT_SECONDS, TimeUnit.SECONDS);
        while (event != null && event.startsWith("CONNECTION_")) {
            event = events.poll(WAIT_SECONDS, TimeUnit.SECONDS);
        }
        return String.valueOf(event);
    }

    private static void nodeAndTreeCache(String path) throws Exception {
        CuratorFramework client = open();
        client.create().creatingParentsIfNeeded().forPath(path + "/deep/er", bytes("1"));
        NodeCache node = keep(new NodeCache(open(), path + "/deep/er"));
        node.start(true);
        TreeCache tree = keep(new TreeCache(open(), path));
        tree.start();
        wait("the tree", () -> tree.getCurrentData(path + "/deep/er") != null);
        client.setData().forPath(path + "/deep/er", bytes("2"));
        wait("the node", () -> text(node.getCurrentData().getData()).equals("2"));
        wait("the tree", () -> text(tree.getCurrentData(path + "/deep/er").getData()).equals("2"));
        client.delete().forPath(path + "/deep/er");
        wait("the deletion", () -> node.getCurrentData() == null && tree.getCurrentData(path + "/deep/er") == null);
    }

    private static void curatorCache(String path) throws Exception {
        CuratorFramework client = open();
        client.create().creatingParentsIfNeeded().forPath(path + "/a/b", bytes("1"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        CountDownLatch filled = new CountDownLatch(1);
        CuratorCache cache = keep(CuratorCache.build(open(), path));
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forInitialized(filled::countDown)
            .forCreates(data -> events.add("created " + data.getPath()))
            .forChanges((before, after) -> events.add("changed " + after.getPath() + " " + text(after.getData())))
            .forDeletes(data -> events.add("deleted " + data.getPath()))
            .afterInitialized().build());
        cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(filled::countDown).build());
        cache.start();
        that(filled.await(WAIT_SECONDS, TimeUnit.SECONDS), "never initialised");
        client.create().forPath(path + "/a/c", bytes("2"));
        same("created " + path + "/a/c", next(events));
        client.setData().forPath(path + "/a/b", bytes("3"));
        same("changed " + path + "/a/b 3", next(events));
        client.delete().forPath(path + "/a/b");
        same("deleted " + path + "/a/b", next(events));
        TreeSet<String> paths = new TreeSet<>();
        for (ChildData data : cache.stream().toArray(ChildData[]::new)) {
            paths.add(data.getPath());
        }
        same(new TreeSet<>(Arrays.asList(path, path + "/a", path + "/a/c")), paths);
    }

    private static void persistentWatcher(String path) throws Exception {
        CuratorFramework client = open();
        client.create().forPath(path);
        BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
        CountDownLatch set = new CountDownLatch(1);
        PersistentWatcher watcher = keep(new PersistentWatcher(open(), path, true));
        watcher.getListenable().addListener(event -> {
            if (event.getPath() != null) {
                events.add(event);
            }
        });
        watcher.getResetListenable().addListener(set::countDown);
        watcher.start();
        that(set.await(WAIT_SECONDS, TimeUnit.SECONDS), "the watch was not set");
        for (int number = 0; number < 3; number++) {
            client.create().forPath(path + "/n" + number);
            same(path + "/n" + number, events.poll(WAIT_SECONDS, TimeUnit.SECONDS).getPath());
        }
    }

    private static final class Texts implements QueueSerializer<String> {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return text(data);
        }
    }

    private static QueueConsumer<String> into(BlockingQueue<String> target) {
        return new QueueConsumer<String>() {
            @Override
            public void consumeMessage(String message) {
                target.add(message);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
                // Nothing to do: the queue takes up its work by itself.
            }
        };
    }

    private static void queues(String path) throws Exception {
        CuratorFramework client = open();
        client.create().forPath(path);
        BlockingQueue<String> got = new LinkedBlockingQueue<>();
        DistributedQueue<String> queue =
            keep(QueueBuilder.builder(open(), into(got), new Texts(), path + "/q").lockPath(path + "/ql").buildQueue());
        queue.start();
        List<String> wanted = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            queue.put("item " + number);
            wanted.add("item " + number);
        }
        List<String> received = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            received.add(String.valueOf(got.poll(WAIT_SECONDS, TimeUnit.SECONDS)));
        }
        same(wanted, received);
        DistributedPriorityQueue<String> producer =
            keep(QueueBuilder.builder(open(), null, new Texts(), path + "/p").buildPriorityQueue(0));
        producer.start();
        producer.put("low", 9);
        producer.put("high", 1);
        wait("both items", () -> client.getChildren().forPath(path + "/p").size() == 2);
        BlockingQueue<String> ordered = new LinkedBlockingQueue<>();
        DistributedPriorityQueue<String> consumer =
            keep(QueueBuilder.builder(open(), into(ordered), new Texts(), path + "/p").buildPriorityQueue(0));
        consumer.start();
        same("high", ordered.poll(WAIT_SECONDS, TimeUnit.SECONDS));
        same("low", ordered.poll(WAIT_SECONDS, TimeUnit.SECONDS));
        BlockingQueue<String> delayed = new LinkedBlockingQueue<>();
        DistributedDelayQueue<String> later =
            keep(QueueBuilder.builder(open(), into(delayed), new Texts(), path + "/d").buildDelayQueue());
        later.start();
        later.put("second", System.currentTimeMillis() + 400);
        later.put("first", System.currentTimeMillis() + 100);
        same("first", delayed.poll(WAIT_SECONDS, TimeUnit.SECONDS));
        same("second", delayed.poll(WAIT_SECONDS, TimeUnit.SECONDS));
        SimpleDistributedQueue simple = new SimpleDistributedQueue(client, path + "/s");
        simple.offer(bytes("a"));
        simple.offer(bytes("b"));
        same("a", text(simple.poll()));
        same("b", text(simple.take()));
    }

    private static void barriers(String path) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(open(), path + "/b");
        barrier.setBarrier();
        DistributedBarrier waiting = new DistributedBarrier(open(), path + "/b");
        that(!waiting.waitOnBarrier(100, TimeUnit.MILLISECONDS), "the barrier is open");
        Future<Boolean> passed = THREADS.submit(() -> waiting.waitOnBarrier(WAIT_SECONDS, TimeUnit.SECONDS));
        barrier.removeBarrier();
        that(in(passed), "did not pass the barrier");
        List<Future<?>> members = new ArrayList<>();
        AtomicInteger entered = new AtomicInteger();
        for (int number = 0; number < 3; number++) {
            DistributedDoubleBarrier both = new DistributedDoubleBarrier(open(), path + "/d", 3);
            members.add(THREADS.submit(() -> {
                that(both.enter(WAIT_SECONDS, TimeUnit.SECONDS), "did not enter");
                entered.incrementAndGet();
                that(both.leave(WAIT_SECONDS, TimeUnit.SECONDS), "did not leave");
                return null;
            }));
        }
        for (Future<?> member : members) {
            in(member);
        }
        same(3, entered.get());
    }

    private static void persistentNodes(String path) throws Exception {
        CuratorFramework client = open();
        CuratorFramework owner = open();
        client.create().forPath(path);
        PersistentNode node = keep(new PersistentNode(owner, CreateMode.EPHEMERAL, false, path + "/mine", bytes("1")));
        node.start();
        that(node.waitForInitialCreate(WAIT_SECONDS, TimeUnit.SECONDS), "not created");
        client.delete().forPath(path + "/mine");
        wait("the node to be there again", () -> client.checkExists().forPath(path + "/mine") != null);
        PersistentTtlNode ttl = keep(new PersistentTtlNode(owner, path + "/ttl", 60_000, bytes("t")));
        ttl.start();
        that(ttl.waitForInitialCreate(WAIT_SECONDS, TimeUnit.SECONDS), "no TTL node");
        GroupMember one = keep(new GroupMember(owner, path + "/group", "one"));
        GroupMember other = keep(new GroupMember(client, path + "/group", "other", bytes("o")));
        one.start();
        other.start();
        wait("both members", () -> one.getCurrentMembers().size() == 2 && other.getCurrentMembers().size() == 2);
    }

    private static void persistentNodeSurvivesItsSession(String path) throws Exception {
        CuratorFramework client = open();
        CuratorFramework owner = open();
        client.create().forPath(path);
        PersistentNode node = keep(new PersistentNode(owner, CreateMode.EPHEMERAL, false, path + "/mine", NOTHING));
        node.start();
        that(node.waitForInitialCreate(WAIT_SECONDS, TimeUnit.SECONDS), "not created");
        long before = client.checkExists().forPath(path + "/mine").getEphemeralOwner();
        AtomicReference<ConnectionState> lost = new AtomicReference<>();
        owner.getConnectionStateListenable().addListener((who, state) -> {
            if (state == ConnectionState.LOST) {
                lost.set(state);
            }
        });
        ZooKeeper handle = owner.getZookeeperClient().getZooKeeper();
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper twin = new ZooKeeper(hosts, 20_000, event -> connected.countDown(), handle.getSessionId(),
            handle.getSessionPasswd());
        that(connected.await(WAIT_SECONDS, TimeUnit.SECONDS), "the twin did not connect");
        twin.close();
        wait("the node under a new session", () -> {
            Stat stat = client.checkExists().forPath(path + "/mine");
            return stat != null && stat.getEphemeralOwner() != before;
        });
        same(ConnectionState.LOST, lost.get());
    }

    public static void main(String[] arguments) throws Exception {
        hosts = arguments[0];
        base = arguments[1];
        open().create().forPath(base);
        check("framework", CuratorChecks::framework);
        check("transactions", CuratorChecks::transactions);
        check("mutex", CuratorChecks::mutex);
        check("read-write-lock", CuratorChecks::readWriteLock);
        check("multi-lock", CuratorChecks::multiLock);
        check("semaphore", CuratorChecks::semaphore);
        check("leader-latch", CuratorChecks::leaderLatch);
        check("leader-selector", CuratorChecks::leaderSelector);
        check("atomic-long", CuratorChecks::atomicLong);
        check("shared-count", CuratorChecks::sharedCount);
        check("path-children-cache", CuratorChecks::pathChildrenCache);
        check("node-and-tree-cache", CuratorChecks::nodeAndTreeCache);
        check("curator-cache", CuratorChecks::curatorCache);
        check("persistent-watcher", CuratorChecks::persistentWatcher);
        check("queues", CuratorChecks::queues);
        check("barriers", CuratorChecks::barriers);
        check("persistent-nodes", CuratorChecks::persistentNodes);
        check("persistent-node-survives-its-session", CuratorChecks::persistentNodeSurvivesItsSession);
        System.exit(failures);
    }
}
