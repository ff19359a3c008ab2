// A message to the broker and back, bytes a second both ways together, by transport: what CURVE costs.
#include <benchmark/benchmark.h>

#include <atomic>
#include <thread>

#include "common/error/error.h"
#include "tests/common/transport_fixture.h"

namespace sgmd {
namespace {

enum Transport { kIpc, kTcp, kTcpEncrypted };

class EchoServer {
 public:
  EchoServer(const std::string& endpoint, const CurveGate* gate)
      : server_(endpoint, gate), thread_([this] { Run(); }) {}
  ~EchoServer() {
    stopping_ = true;
    thread_.join();
  }

 private:
  void Run() {
    while (!stopping_) {
      Server::Wait({&server_}, std::chrono::milliseconds(50));
      while (auto in = server_.TryReceive()) {
        if (in->envelope.kind == wire::Kind::Hello) in->envelope.kind = wire::Kind::Welcome;
        server_.Send(in->peer, in->envelope);
      }
    }
  }
  Server server_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

void BM_RoundTrip(benchmark::State& state) {
  const auto transport = static_cast<Transport>(state.range(0));
  const std::int64_t bytes = state.range(1);
  const TempFolder folder;
  const std::string endpoint =
      transport == kIpc ? "ipc://" + (folder / "bench.ipc").string() : StrCat("tcp://127.0.0.1:", FreePort());
  std::unique_ptr<CurveGate> gate;
  NodeIdentity identity = testing::Identity("generator");
  if (transport == kTcpEncrypted) {
    MakeRunKeys(folder / "keys");
    gate = std::make_unique<CurveGate>(LoadServerKeys(folder / "keys"));
    identity.keys = LoadClientKeys(folder / "keys");
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

}  // namespace
}  // namespace sgmd
