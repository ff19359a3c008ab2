// A message to the broker and back, bytes a second both ways together, by transport: what CURVE costs. And what it
// costs to pass one on.
#include <benchmark/benchmark.h>

#include <atomic>
#include <thread>

#include "common/error/error.h"
#include "common/transport/peers.h"
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
BENCHMARK(BM_RoundTrip)->ArgsProduct({{kIpc, kTcp, kTcpEncrypted}, {48 << 10, 1 << 20, 8 << 20}})->UseRealTime();

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
