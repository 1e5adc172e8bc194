// Contends for a Curator recipe and prints when it was inside, in the machine's monotonic clock.
// Usage: Contender HOST:PORT PATH ROUNDS KIND, KIND: mutex, mutex-any (also sees kazoo's names), read, write, semaphore,
// latch. Prints `IN NANOSECONDS CZXID` and `OUT NANOSECONDS` for each round.

import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.StandardLockInternalsDriver;
import org.apache.curator.retry.RetryNTimes;

public class Contender {
    // The sequence number is what follows the marker, whatever the marker is.
    static class AnyNames extends StandardLockInternalsDriver {
        @Override
        public String fixForSorting(String name, String lockName) {
            return name.substring(Math.max(0, name.length() - 10));
        }
    }

    interface Body {
        void run() throws Exception;
    }

    static CuratorFramework client;

    static void inside(String path) throws Exception {
        long began = System.nanoTime();
        long czxid = path == null ? 0 : client.checkExists().forPath(path).getCzxid();
        System.out.println("IN " + began + " " + czxid);
        Thread.sleep(5);
        System.out.println("OUT " + System.nanoTime());
    }

    static String first(InterProcessMutex mutex) throws Exception {
        return mutex.getParticipantNodes().iterator().next();
    }

    public static void main(String[] args) throws Exception {
        String path = args[1];
        int rounds = Integer.parseInt(args[2]);
        client = CuratorFrameworkFactory.newClient(args[0], 10000, 5000, new RetryNTimes(10, 200));
        client.start();
        for (int round = 0; round < rounds; round++) {
            switch (args[3]) {
                case "mutex":
                case "mutex-any": {
                    InterProcessMutex mutex =
                            args[3].equals("mutex")
                                    ? new InterProcessMutex(client, path)
                                    : new InterProcessMutex(client, path, new AnyNames());
                    mutex.acquire();
                    inside(first(mutex));
                    mutex.release();
                    break;
                }
                case "read":
                case "write": {
                    InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, path);
                    InterProcessMutex mutex = args[3].equals("read") ? lock.readLock() : lock.writeLock();
                    mutex.acquire();
                    inside(null);
                    mutex.release();
                    break;
                }
                case "semaphore": {
                    InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, path, 2);
                    Lease lease = semaphore.acquire();
                    inside(null);
                    semaphore.returnLease(lease);
                    break;
                }
                case "latch": {
                    LeaderLatch latch = new LeaderLatch(client, path, "curator");
                    latch.start();
                    latch.await();
                    inside(null);
                    latch.close();
                    break;
                }
                default:
                    throw new IllegalArgumentException(args[3]);
            }
        }
        client.close();
    }
}
