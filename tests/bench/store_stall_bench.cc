// How long the broker's loop is held by the answer cache while values come as fast as the disk takes them, old ones are
// dropped, and every sixteenth lookup is of one that is there: the longest single call, how long a hit takes to come,
// the throughput and the disk's use.
//   store_stall_bench <folder> <limit GiB> <value MiB> <written GiB>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <random>
#include <thread>

#include "nodes/broker/answer_cache.h"

namespace sgmd {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

// How often this thread has given up its core by itself, for a lock or the disk.
long Waits() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// The longest of the calls that it has timed, the longest of those that waited for anything (the others lost their core
// to somebody else, or computed), and how long they took together.
struct Longest {
  double seconds = 0, waiting = 0, sum = 0;

  template <typename Call>
  void Time(Call call) {
    const long waits = Waits();
    const auto start = Clock::now();
    call();
    const double took = Seconds(Clock::now() - start);
    seconds = std::max(seconds, took);
    if (Waits() != waits) waiting = std::max(waiting, took);
    sum += took;
  }
  std::string Text(const char* what) const {
    char text[64];
    std::snprintf(text, sizeof text, "%s %.1f (%.1f) ms", what, 1e3 * seconds, 1e3 * waiting);
    return text;
  }
};

TensorFrame RandomValue(std::size_t bytes) {
  auto data = std::make_shared<std::vector<float>>(bytes / sizeof(float));
  std::mt19937 random(static_cast<unsigned>(bytes));
  for (float& x : *data) x = static_cast<float>(random());
  return {{"velocity", DType::kF32, {static_cast<std::int64_t>(data->size())}, std::as_bytes(std::span(*data))}, data};
}

double GibOnDisk(const std::filesystem::path& folder) {
  std::uintmax_t bytes = 0;
  std::error_code gone;  // files come and go meanwhile
  for (auto it = std::filesystem::directory_iterator(folder); it != std::filesystem::directory_iterator(); ++it) {
    if (const std::uintmax_t size = it->file_size(gone); !gone) bytes += size;
  }
  return static_cast<double>(bytes) / (1 << 30);
}

void Run(const std::filesystem::path& folder, double limit_gib, double value_mib, double written_gib) {
  AnswerCache cache(folder, {.limit_gib = limit_gib});
  const TensorFrame value = RandomValue(static_cast<std::size_t>(value_mib * (1 << 20)));
  const auto values = static_cast<std::uint64_t>(written_gib * 1024 / value_mib);
  const std::uint64_t look_at = std::max<std::uint64_t>(values / 64, 1);
  const auto back = std::min<std::uint64_t>(256, static_cast<std::uint64_t>(limit_gib * 512 / value_mib));  // are there
  Longest writes, asks, takes, requests;
  double held_back = 0, most_on_disk = 0, longest_safety = 0, longest_hit = 0;
  std::map<std::uint64_t, Clock::time_point> asked;  // hits that have not come
  constexpr std::uint64_t kHit = std::uint64_t{1} << 32;
  const auto take = [&] {
    std::optional<AnswerStore::Found> found;
    takes.Time([&] { found = cache.TakeFound(); });
    const auto hit = found ? asked.extract(found->request) : decltype(asked)::node_type();
    if (hit) longest_hit = std::max(longest_hit, Seconds(Clock::now() - hit.mapped()));
    return found.has_value();
  };
  std::optional<std::pair<std::uint64_t, Clock::time_point>> safety;
  const auto start = Clock::now();
  for (std::uint64_t i = 0; i < values; ++i) {
    const auto before = Clock::now();
    while (cache.IsBehind()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      while (take()) {
      }
    }
    held_back += Seconds(Clock::now() - before);
    const Digest key{1, i};
    asks.Time([&] { cache.Lookup(i, key); });
    writes.Time([&] {
      cache.Store(key, value);
      cache.Record({{2, 2}, 0, 0, static_cast<std::int64_t>(i), 0}, key);
    });
    if (i % 16 == 15) {
      asks.Time([&] { cache.Lookup(kHit + i, {1, i - std::min(i, back)}); });
      asked[kHit + i] = Clock::now();
    }
    while (take()) {
    }
    if (safety && cache.IsSafe(safety->first)) {
      longest_safety = std::max(longest_safety, Seconds(Clock::now() - safety->second));
      safety.reset();
    }
    if (!safety && i % 64 == 63) {
      requests.Time([&] { safety = {cache.RequestSafety(), Clock::now()}; });
    }
    if (i % look_at == 0) most_on_disk = std::max(most_on_disk, GibOnDisk(folder));
  }
  cache.Sync();
  while (!asked.empty()) take();
  const double seconds = Seconds(Clock::now() - start);
  most_on_disk = std::max(most_on_disk, GibOnDisk(folder));
  const AnswerStore::Stats stats = cache.stats();
  std::printf(
      "limit %.2f GiB, values of %.2f MiB, %.1f GiB written in %.1f s: %.0f MB/s, leases held back for %.1f s\n"
      "longest hold of the loop (of those that waited): %s, %s, %s, %s; all together %.2f s\n"
      "%ld hits, there after at most %.1f ms; safe after at most %.2f s\n"
      "on disk at most %.3f GiB; %ld entries, %ld evicted, %ld lost\n",
      limit_gib, value_mib, written_gib, seconds, written_gib * 1073.74 / seconds, held_back,
      writes.Text("write").c_str(), asks.Text("look up").c_str(), takes.Text("take what was found").c_str(),
      requests.Text("request for safety").c_str(), writes.sum + asks.sum + takes.sum + requests.sum, stats.hits,
      1e3 * longest_hit, longest_safety, most_on_disk, stats.entries, stats.evicted, stats.lost);
}

}  // namespace
}  // namespace sgmd

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: store_stall_bench <folder> <limit GiB> <value MiB> <written GiB>\n", stderr);
    return 2;
  }
  sgmd::Run(argv[1], std::stod(argv[2]), std::stod(argv[3]), std::stod(argv[4]));
}
