// Stands in for the agent's helper and misbehaves as the name that it runs under says.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/service/line_wire.h"

namespace wire = profagent::service::line_wire;

namespace {

void send_bytes(const void* bytes, std::size_t size) {
  if (send(0, bytes, size, MSG_NOSIGNAL) < 0) _exit(0);
}

void answer(const wire::Request& request, std::uint32_t id, std::uint32_t first, std::size_t count) {
  wire::AnswerWriter writer(id, first);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string line = "at" + std::to_string(request.addresses.size());
    writer.add(std::vector<wire::Frame>{{line, "/bad.c", 1}});
  }
  const auto packet = writer.finish();
  send_bytes(packet.data(), packet.size());
}

}  // namespace

int main() {
  char path[4096] = {};
  if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0) return 1;
  const std::string_view whole = path;
  const std::string_view mood = whole.substr(whole.rfind('/') + 1);
  if (const int mark = open((std::string(whole) + ".starts").c_str(), O_CREAT | O_APPEND | O_WRONLY, 0600);
      mark >= 0) {
    if (write(mark, "x", 1) != 1) return 1;
    close(mark);
  }
  // Until the other end is closed.
  char none = 0;
  if (mood == "mute") return static_cast<int>(recv(0, &none, sizeof(none), 0));
  if (mood == "rude") send_bytes("hello", 5);
  send_bytes(wire::kHello.data(), wire::kHello.size());

  std::vector<std::byte> room(wire::kMaxPacket);
  for (;;) {
    const ssize_t got = recv(0, room.data(), room.size(), 0);
    if (got <= 0) return 0;
    const auto request = wire::decode_request(std::span(room).first(static_cast<std::size_t>(got)));
    if (!request) return 1;
    const std::size_t count = request->addresses.size();
    if (mood == "dies") abort();
    if (mood == "dies_once") {
      const std::string mark = std::string(path) + ".died";
      if (open(mark.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600) >= 0) abort();
      answer(*request, request->id, 0, count);
    }
    if (mood == "half") {
      answer(*request, request->id, 0, 1);
      abort();
    }
    if (mood == "late") {
      // Answers when a file appears beside it.
      const std::string mark = std::string(path) + ".go";
      while (access(mark.c_str(), F_OK) != 0) {
        if (recv(0, &none, sizeof(none), MSG_DONTWAIT) == 0) return 0;
        usleep(1000);
      }
      answer(*request, request->id, 0, count);
    }
    if (mood == "talks") {
      // No two texts are equal.
      static unsigned number = 0;
      for (std::uint32_t i = 0; i < count; ++i) {
        std::vector<std::string> texts;
        for (int k = 0; k < 7; ++k) texts.push_back(std::to_string(++number) + std::string(8000, 'x'));
        std::vector<wire::Frame> frames;
        for (const std::string& text : texts) frames.push_back({text, "/bad.c", 1});
        wire::AnswerWriter writer(request->id, i);
        writer.add(frames);
        const auto packet = writer.finish();
        send_bytes(packet.data(), packet.size());
      }
    }
    if (mood == "nothing") {
      for (;;) answer(*request, request->id, 0, 0);
    }
    if (mood == "garbage") send_bytes("garbage", 7);
    if (mood == "wrong_id") answer(*request, request->id + 1, 0, count);
    if (mood == "wrong_place") answer(*request, request->id, 1, count - 1);
    if (mood == "too_much") answer(*request, request->id, 0, count + 1);
  }
}
