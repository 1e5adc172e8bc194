import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * One session that writes without end while the servers under it are replaced, and says what it was told, a line each:
 * SEQ name value, SET value, UNKNOWN value, STATE state, EVENT path type, WRONG text, DONE owner session.
 * It ends when its standard input does. Arguments: hosts, base path, session timeout in ms.
 */
public class Traveller {
    private static void say(String line) {
        synchronized (System.out) {
            System.out.println(line);
            System.out.flush();
        }
    }

    private static byte[] bytes(long value) {
        return Long.toString(value).getBytes(StandardCharsets.US_ASCII);
    }

    public static void main(String[] args) throws Exception {
        String base = args[1];
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(args[0], Integer.parseInt(args[2]), (WatchedEvent event) -> {
            if (event.getType() == Watcher.Event.EventType.None) {
                say("STATE " + event.getState());
                if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                    connected.countDown();
                }
            } else {
                say("EVENT " + event.getPath() + " " + event.getType());
            }
        });
        connected.await();
        zk.create(base + "/java-mine", new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        zk.create(base + "/java-register", bytes(0), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.exists(base + "/quiet", true);
        Thread stop = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (java.io.IOException error) {
                say("WRONG " + error);
            }
        });
        stop.start();
        long acknowledged = 0;
        for (long n = 1; stop.isAlive(); n++) {
            try {
                String name = zk.create(
                    base + "/seq/n-", ("java-" + n).getBytes(StandardCharsets.US_ASCII),
                    ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
                say("SEQ " + name + " java-" + n);
                zk.setData(base + "/java-register", bytes(n), -1);
                acknowledged = n;
                say("SET " + n);
                long found = Long.parseLong(
                    new String(zk.getData(base + "/java-register", false, null), StandardCharsets.US_ASCII));
                if (found < acknowledged) {
                    say("WRONG read " + found + " after " + acknowledged);
                }
            } catch (KeeperException.ConnectionLossException error) {
                say("UNKNOWN " + n);
            } catch (KeeperException error) {
                say("WRONG " + error);
                Thread.sleep(100);
            }
            Thread.sleep(2);
        }
        Stat mine = null;
        while (mine == null) {
            try {
                mine = zk.exists(base + "/java-mine", false);
                if (mine == null) {
                    say("WRONG the ephemeral is gone");
                    break;
                }
            } catch (KeeperException.ConnectionLossException error) {
                Thread.sleep(50);
            }
        }
        say("DONE " + (mine == null ? 0 : mine.getEphemeralOwner()) + " " + zk.getSessionId());
        zk.close();
    }
}
