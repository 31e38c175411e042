# Ruby that calls Ruby, blocks called from C, and a thread that waits.
def fib(n)
  n < 2 ? n : fib(n - 1) + fib(n - 2)
end

Thread.new { sleep }
puts 'ready'
$stdout.flush
limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 120
while Process.clock_gettime(Process::CLOCK_MONOTONIC) < limit
  fib(15)
  (1..500).map { |i| i * 7919 % 1009 }.sort { |a, b| b <=> a }
  ('abababc' * 200).gsub(/(a|b)*c/) { |match| match.upcase }
  Marshal.load(Marshal.dump([1, 'two', { three: 3.0 }] * 100))
end
