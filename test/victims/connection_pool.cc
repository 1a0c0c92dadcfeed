// A pool of four connections, and 200 threads that all want one, until the input ends. Most ask something
// short (look_up). A few fetch much (export_report): they keep a connection for long, and give it back by
// give_back_clean(), which brings it in order while it holds the pool's lock. So threads wait for a
// connection because of the one, and for the lock because of the other.
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

namespace shop {

struct Connection {
  int id;
};

class ConnectionPool {
 public:
  ConnectionPool() {
    for (Connection& connection : connections_) free_.push_back(&connection);
  }
  NOINLINE Connection* take() {
    std::unique_lock lock(mutex_);
    while (free_.empty()) returned_.wait(lock);
    Connection* connection = free_.back();
    free_.pop_back();
    return connection;
  }
  NOINLINE void give_back(Connection* connection) {
    const std::lock_guard lock(mutex_);
    free_.push_back(connection);
    returned_.notify_one();
  }
  NOINLINE void give_back_clean(Connection* connection) {
    const std::lock_guard lock(mutex_);
    sleep_ms(5);
    free_.push_back(connection);
    returned_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  Connection connections_[4] = {{1}, {2}, {3}, {4}};
  std::vector<Connection*> free_;
};

ConnectionPool pool;

NOINLINE void look_up() {
  Connection* connection = pool.take();
  sleep_ms(1);
  pool.give_back(connection);
  END_OF_FRAME();
}

NOINLINE void export_report() {
  Connection* connection = pool.take();
  sleep_ms(50);
  pool.give_back_clean(connection);
  END_OF_FRAME();
}

NOINLINE void serve_requests(int number) {
  for (;;) {
    number % 10 == 0 ? export_report() : look_up();
  }
}

}  // namespace shop

int main() {
  for (int i = 0; i < 200; ++i) std::thread(shop::serve_requests, i).detach();
  serve_until_end();
  _exit(0);  // the threads still use the pool
}
