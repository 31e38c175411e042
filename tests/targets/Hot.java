import java.util.Arrays;
import java.util.HashMap;
import java.util.zip.CRC32;

/** Java that is compiled while it runs, beside what the machine does for itself. */
public class Hot {
    static volatile long sum;

    static int fib(int n) {
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
    }

    static void work() {
        HashMap<Integer, String> map = new HashMap<>();
        for (int i = 0; i < 500; i++) {
            map.put(i, "value " + i);
        }
        Integer[] numbers = new Integer[500];
        Arrays.setAll(numbers, i -> i * 7919 % 1009);
        Arrays.sort(numbers, (a, b) -> b - a);
        CRC32 crc = new CRC32();
        crc.update(new byte[4096]);
        sum += fib(18) + map.size() + numbers[0] + crc.getValue();
    }

    public static void main(String[] arguments) throws Exception {
        long limit = System.nanoTime() + 120_000_000_000L;
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(1_000_000);
            } catch (InterruptedException ended) {
                sum++;
            }
        });
        sleeper.setDaemon(true);
        sleeper.start();
        for (int i = 0; i < 50; i++) {
            work();
        }
        System.out.println("ready");
        while (System.nanoTime() < limit) {
            work();
        }
    }
}
