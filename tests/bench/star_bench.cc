// What the broker costs beside a bare ZeroMQ star: a ROUTER that only passes on the same frames along a sample's way
// (generator, middle, teacher, middle, fake score, and the gradient back), over ipc. CPU of the process in the middle a
// sample, in turn with sgmd-broker without and with its cache.
//   star_bench [rounds]
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "common/error/error.h"
#include "nodes/simulator/simulation.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

constexpr int kTeachers = 4, kSteps = 3;
constexpr char kGenerator[] = "generator", kFakeScore[] = "fake_score";

enum class Kind : std::int32_t { kHello, kSample, kScore, kGradient, kEnd };
struct Header {
  Kind kind = Kind::kHello;
  std::int32_t index = 0;
  char as_long_as_ours[504]{};
};
using Frames = std::vector<zmq::message_t>;

std::string Teacher(int index) { return "teacher." + std::to_string(index % kTeachers); }

Header HeaderIn(const zmq::message_t& frame) {
  Header header;
  std::memcpy(&header, frame.data(), std::min(sizeof header, frame.size()));
  return header;
}

// Without a copy of its bytes.
zmq::message_t Shared(zmq::message_t& frame) {
  zmq::message_t shared;
  shared.copy(frame);
  return shared;
}

Frames Receive(zmq::socket_t& socket) {
  Frames frames;
  do {
    frames.emplace_back();
    (void)socket.recv(frames.back());
  } while (frames.back().more());
  return frames;
}

template <typename... Parts>
void Send(zmq::socket_t& socket, const Header& header, Parts... parts) {
  socket.send(zmq::buffer(&header, sizeof header), sizeof...(parts) > 0 ? zmq::send_flags::sndmore : zmq::send_flags{});
  std::size_t left = sizeof...(parts);
  (socket.send(parts, --left > 0 ? zmq::send_flags::sndmore : zmq::send_flags{}), ...);
}

// Sample: x_g, x_s, sigma, prompts. Until the generator says that it is the end.
void RunMiddle(const std::string& endpoint) {
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.bind(endpoint);
  const auto send_to = [&](const std::string& name, const Header& header, auto... parts) {
    socket.send(zmq::buffer(name), zmq::send_flags::sndmore);
    Send(socket, header, std::move(parts)...);
  };
  std::map<std::int32_t, Frames> held;
  for (int joined = 0;;) {
    Frames f = Receive(socket);  // who, header, tensors
    const Header header = HeaderIn(f[1]);
    switch (header.kind) {
      case Kind::kHello:
        if (++joined == kTeachers + 2) send_to(kGenerator, header);
        break;
      case Kind::kSample:
        send_to(Teacher(header.index), header, Shared(f[3]), Shared(f[4]), Shared(f[5]));
        held[header.index] = std::move(f);
        break;
      case Kind::kScore: {
        Frames sample = std::move(held.extract(header.index).mapped());
        send_to(kFakeScore, header, std::move(sample[2]), std::move(sample[3]), std::move(sample[4]),
                std::move(sample[5]), std::move(f[2]));
        break;
      }
      case Kind::kGradient:
        send_to(kGenerator, header, std::move(f[2]));
        break;
      case Kind::kEnd:
        return;
    }
  }
}

// This program again, as the middle.
class Middle {
 public:
  explicit Middle(const std::string& endpoint) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::execl("/proc/self/exe", "star_bench", "--middle", endpoint.c_str(), nullptr);
    ::_exit(127);
  }
  ~Middle() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Middle(const Middle&) = delete;
  double CpuSeconds() const {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) throw Error("no middle");
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

 private:
  pid_t pid_ = -1;
};

zmq::socket_t Joined(zmq::context_t& context, const std::string& endpoint, const std::string& name) {
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::routing_id, name);
  socket.set(zmq::sockopt::linger, 1000);
  socket.connect(endpoint);
  Send(socket, Header{});
  return socket;
}

// Gives the first tensor of every message back, as `kind`, `count` times.
void RunPeer(zmq::context_t& context, const std::string& endpoint, const std::string& name, Kind kind, int count) {
  zmq::socket_t socket = Joined(context, endpoint, name);
  for (int i = 0; i < count; ++i) {
    Frames f = Receive(socket);
    Send(socket, Header{kind, HeaderIn(f[0]).index}, std::move(f[1]));
  }
}

zmq::message_t Tensor(std::vector<char>& bytes) {
  return zmq::message_t(
      bytes.data(), bytes.size(), [](void*, void*) {}, nullptr);
}

// The middle's CPU in ms a sample.
double Star(std::size_t bytes, int micro_batches) {
  const TempFolder folder;
  const std::string endpoint = "ipc://" + (folder / "star.ipc").string();
  std::vector<char> x_g(bytes, 1), x_s(bytes, 2), sigma(4, 3), prompts(16, 4);
  const Middle middle(endpoint);
  zmq::context_t context(1);
  std::vector<std::jthread> peers;
  const int samples = micro_batches * kSteps;
  for (int i = 0; i < kTeachers; ++i) {
    peers.emplace_back([&, i] { RunPeer(context, endpoint, Teacher(i), Kind::kScore, samples / kTeachers); });
  }
  peers.emplace_back([&] { RunPeer(context, endpoint, kFakeScore, Kind::kGradient, samples); });
  zmq::socket_t generator = Joined(context, endpoint, kGenerator);
  Receive(generator);  // all are there
  const double before = middle.CpuSeconds();
  for (int step = 0; step < kSteps; ++step) {
    for (int i = 0; i < micro_batches; ++i) {
      Send(generator, Header{Kind::kSample, step * micro_batches + i}, Tensor(x_g), Tensor(x_s), Tensor(sigma),
           Tensor(prompts));
    }
    for (int i = 0; i < micro_batches; ++i) Receive(generator);
  }
  const double seconds = middle.CpuSeconds() - before;
  Send(generator, Header{Kind::kEnd, 0});
  peers.clear();
  return 1e3 * seconds / samples;
}

// Likewise of sgmd-broker.
double Broker(std::size_t bytes, int micro_batches, bool cache) {
  SimulationOptions options;
  options.teachers = kTeachers;
  options.micro_batches = micro_batches;
  options.steps = kSteps;
  options.sample_bytes = static_cast<std::int64_t>(bytes);
  options.teacher_ms = 0;
  options.probe_ms = 0;
  options.cache = cache;
  const StopRequests stop;
  const SimulationReport report = Simulate(options, stop);
  if (!report.Whole()) throw Error("not every sample came back");
  return report.MsPerSample(report.broker_cpu_seconds);
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void Compare(std::size_t bytes, int micro_batches, int rounds) {
  std::vector<double> star, off, on;
  for (int round = 0; round < rounds; ++round) {
    star.push_back(Star(bytes, micro_batches));
    off.push_back(Broker(bytes, micro_batches, false));
    on.push_back(Broker(bytes, micro_batches, true));
  }
  const double s = Median(star), without = Median(off), with = Median(on);
  std::printf(
      "%8zu KiB: star %.3f ms of CPU a sample, broker %.3f ms: %.2f times, with its cache %.3f ms: %.2f times\n",
      bytes >> 10, s, without, without / s, with, with / s);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sgmd

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--middle") {
    sgmd::RunMiddle(argv[2]);
    return 0;
  }
  const int rounds = argc > 1 ? std::stoi(argv[1]) : 3;
  sgmd::Compare(24 << 10, 512, rounds);
  sgmd::Compare(1 << 20, 64, rounds);
  sgmd::Compare(8 << 20, 16, rounds);
}
