// A message to the broker and back, bytes a second both ways together, by transport: what CURVE costs. And what it
// costs to pass one on.
#include <benchmark/benchmark.h>

#include <atomic>
#include <thread>

#include "common/error/error.h"
#include "common/transport/peers.h"
#include "common/transport/socket.h"
#include "tests/common/transport_fixture.h"

namespace sgmd {
namespace {

enum Transport { kIpc, kTcp, kTcpEncrypted };

class EchoServer {
 public:
  EchoServer(const std::string& endpoint, const Gate* gate)
      : server_(endpoint, gate), peers_(server_, testing::Identity("broker")), thread_([this] { Run(); }) {}
  ~EchoServer() {
    stopping_ = true;
    thread_.join();
  }

 private:
  void Run() {
    while (!stopping_) {
      Server::Wait({&server_}, std::chrono::milliseconds(50));
      while (auto in = server_.TryReceive()) {
        const auto node = peers_.Take(*in);
        if (!node) continue;
        if (in->envelope.kind == wire::Kind::Hello) {
          peers_.Welcome(*in);
        } else {
          peers_.Post(*node, std::move(in->envelope));
        }
      }
    }
  }
  Server server_;
  Peers peers_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

void BM_RoundTrip(benchmark::State& state) {
  const auto transport = static_cast<Transport>(state.range(0));
  const std::int64_t bytes = state.range(1);
  const TempFolder folder;
  const std::string endpoint =
      transport == kIpc ? "ipc://" + (folder / "bench.ipc").string() : StrCat("tcp://127.0.0.1:", FreePort());
  std::unique_ptr<Gate> gate;
  NodeIdentity identity = testing::Identity("generator");
  if (transport == kTcpEncrypted) {
    const std::vector<std::string> users{"generator"};
    MakeRunKeys(folder / "keys", users, true);
    gate = std::make_unique<Gate>(LoadGateKeys(folder / "keys", users, true));
    identity.credentials = LoadCredentials(folder / "keys", "generator", true);
  }
  const EchoServer server(endpoint, gate.get());
  Client client(endpoint, identity);
  Envelope sample;
  sample.kind = wire::Kind::Sample;
  sample.tensors = {testing::FloatFrame("x_s", {bytes / 4})};
  for (auto _ : state) {
    client.Send(sample);
    if (!client.Receive(testing::kSoon)) state.SkipWithError("no answer");
  }
  state.SetBytesProcessed(2 * state.iterations() * bytes);
  state.SetLabel(transport == kIpc ? "ipc" : transport == kTcp ? "tcp" : "tcp encrypted");
}
BENCHMARK(BM_RoundTrip)
    ->ArgsProduct({{kIpc, kTcp, kTcpEncrypted}, {48 << 10, 1 << 20, 8 << 20}})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

// The same over a ROUTER and a DEALER alone: frames of the same sizes, nothing hashed, numbered or looked at.
void BM_BareRoundTrip(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const TempFolder folder;
  const std::string endpoint = "ipc://" + (folder / "bare.ipc").string();
  zmq::socket_t router = MakeSocket(zmq::socket_type::router), dealer = MakeSocket(zmq::socket_type::dealer);
  router.bind(endpoint);
  dealer.connect(endpoint);
  std::jthread echo([&](const std::stop_token& stop) {
    router.set(zmq::sockopt::rcvtimeo, 50);
    zmq::message_t frame;
    while (!stop.stop_requested()) {
      while (router.recv(frame)) router.send(frame, frame.more() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  });
  const TensorFrame tensor = testing::FloatFrame("x_s", {static_cast<std::int64_t>(bytes / 4)});
  const std::string header(400, 'h');
  for (auto _ : state) {
    dealer.send(zmq::buffer(header), zmq::send_flags::sndmore);
    auto* data = const_cast<std::byte*>(tensor.view.bytes.data());
    dealer.send(zmq::message_t(
                    data, bytes, [](void*, void*) {}, nullptr),
                zmq::send_flags::none);
    zmq::message_t frame;
    do {
      (void)dealer.recv(frame);
    } while (frame.more());
  }
  state.SetBytesProcessed(2 * state.iterations() * state.range(0));
}
BENCHMARK(BM_BareRoundTrip)->Arg(48 << 10)->Arg(1 << 20)->Arg(8 << 20)->MeasureProcessCPUTime()->UseRealTime();

// What the broker does with a scored sample of three such tensors between its arrival and its departure, with the
// checksums that came and with new ones.
void BM_PassOn(benchmark::State& state) {
  const bool anew = state.range(0) != 0;
  const std::int64_t bytes = state.range(1);
  Envelope sample = testing::Message(wire::Kind::ScoredSample);
  for (const char* name : {"x_g", "x_s", "velocity"}) sample.tensors.push_back(testing::FloatFrame(name, {bytes / 4}));
  const std::vector<std::byte> header = EncodeHeader(sample);
  std::vector<Frame> frames;
  for (const TensorFrame& tensor : sample.tensors) frames.push_back({tensor.view.bytes, tensor.owner});
  for (auto _ : state) {
    Envelope received = DecodeEnvelope(header, frames);
    if (anew) {
      for (TensorFrame& tensor : received.tensors) tensor.checksum.reset();
    }
    benchmark::DoNotOptimize(EncodeHeader(received));
  }
  state.SetLabel(anew ? "hashed again" : "passed on");
}
BENCHMARK(BM_PassOn)->ArgsProduct({{0, 1}, {1 << 20, 8 << 20}})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sgmd
