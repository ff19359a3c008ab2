// The answer cache on a full disk, without file descriptors, damaged, read-only and locked: training goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "nodes/broker/answer_cache.h"
#include "tests/nodes/looked_up.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

constexpr std::chrono::milliseconds kRetry{50};
constexpr std::size_t kFloats = 64 << 10;  // 256 KiB a value

Digest Key(int i) { return {7, static_cast<std::uint64_t>(i)}; }

TensorFrame Velocity(float value) {
  auto data = std::make_shared<std::vector<float>>(kFloats, value);
  return {{"velocity", DType::kF32, {static_cast<std::int64_t>(kFloats)}, std::as_bytes(std::span(*data))}, data};
}

AnswerCache::Options Options(AnswerWriter::Limits writer = {}) {
  writer.retry = kRetry;
  return {.limit_gib = 1.0 / 64, .writer = writer};  // flushed after 1 MiB
}

bool ProblemBecomes(const AnswerCache& cache, bool there) {
  for (int i = 0; i < 200 && cache.stats().problem.empty() == there; ++i) std::this_thread::sleep_for(kRetry);
  return cache.stats().problem.empty() != there;
}

// A file system of a few MiB of its own.
class SmallDisk {
 public:
  SmallDisk() {
    mounted_ = std::getenv("SGMD_PRIVATE_MOUNTS") != nullptr &&  // tests/support/private_mounts
               ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=24m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  std::filesystem::path path() const { return folder_.path(); }
  void Fill() {
    std::ofstream filler(path() / "filler", std::ios::binary);
    const std::string block(1 << 16, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void MakeRoom() { std::filesystem::remove(path() / "filler"); }
  bool Remount(bool read_only) {
    return ::mount("tmpfs", path().c_str(), "tmpfs", MS_REMOUNT | (read_only ? MS_RDONLY : 0), "size=24m") == 0;
  }

 private:
  TempFolder folder_;
  bool mounted_ = false;
};

TEST(AnswerCacheFaults, AFullDiskLosesNothingThatFitsIntoMemory) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  {
    AnswerCache cache(disk.path() / "cache", Options());
    cache.Store(Key(0), Velocity(1));
    cache.Sync();
    disk.Fill();
    for (int i = 1; i <= 8; ++i) cache.Store(Key(i), Velocity(1));
    cache.Sync();
    ASSERT_TRUE(ProblemBecomes(cache, true)) << "it is full";
    EXPECT_GT(cache.stats().waiting_bytes, 0);
    EXPECT_TRUE(LookedUp(cache, Key(0))) << "what is there is served";
    disk.MakeRoom();
    ASSERT_TRUE(ProblemBecomes(cache, false)) << cache.stats().problem;
    EXPECT_EQ(cache.stats().lost, 0);
    EXPECT_EQ(cache.stats().waiting_bytes, 0);
  }
  AnswerCache again(disk.path() / "cache", Options());
  for (int i = 0; i <= 8; ++i) EXPECT_TRUE(LookedUp(again, Key(i))) << i;
}

TEST(AnswerCacheFaults, AFullDiskHoldsABoundedNumberOfBytesAndCountsWhatIsLost) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  constexpr std::size_t kBound = 4 << 20;
  AnswerCache cache(disk.path() / "cache", Options({.lost_above = kBound}));
  disk.Fill();
  cache.Store(Key(0), Velocity(1));
  cache.Sync();
  ASSERT_TRUE(ProblemBecomes(cache, true));
  for (int i = 1; i <= 40; ++i) cache.Store(Key(i), Velocity(1));
  EXPECT_GT(cache.stats().lost, 0);
  EXPECT_LE(cache.stats().waiting_bytes, static_cast<std::int64_t>(kBound));
  EXPECT_FALSE(cache.IsBehind()) << "training goes on";
  EXPECT_TRUE(cache.IsSafe(cache.RequestSafety())) << "no checkpoint waits for a disk that fails";
  disk.MakeRoom();
  EXPECT_TRUE(ProblemBecomes(cache, false)) << cache.stats().problem;
  cache.Store(Key(99), Velocity(1));
  cache.Sync();
  EXPECT_TRUE(LookedUp(cache, Key(99)));
}

TEST(AnswerCacheFaults, TooManyOpenFilesPass) {
  TempFolder folder;
  AnswerCache cache(folder.path(), Options());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{3, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  for (int i = 0; i < 4; ++i) cache.Store(Key(i), Velocity(1));
  cache.Sync();
  const bool noticed = ProblemBecomes(cache, true);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(noticed);
  ASSERT_TRUE(ProblemBecomes(cache, false)) << cache.stats().problem;
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(LookedUp(cache, Key(i))) << i;
  EXPECT_EQ(cache.stats().lost, 0);
}

TEST(AnswerCacheFaults, AReadOnlyOneIsServed) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  { AnswerCache(disk.path() / "cache", Options()).Store(Key(0), Velocity(1)); }
  ASSERT_TRUE(disk.Remount(true));
  AnswerCache cache(disk.path() / "cache", Options());
  EXPECT_TRUE(LookedUp(cache, Key(0)));
  cache.Store(Key(1), Velocity(1));
  cache.Sync();
  EXPECT_FALSE(LookedUp(cache, Key(1)));
  EXPECT_THAT(cache.stats().problem, HasSubstr("can only be read"));
}

TEST(AnswerCacheFaults, OneThatIsInUseIsAnErrorWithTheWayOut) {
  TempFolder folder;
  const AnswerCache cache(folder.path(), Options());
  EXPECT_THAT(ErrorOf([&] { AnswerCache(folder.path(), Options()); }), HasSubstr("another run is using it"));
}

class DamagedCache : public testing::TestWithParam<std::pair<const char*, void (*)(const std::filesystem::path&)>> {};

TEST_P(DamagedCache, IsSetAsideAndMadeAnewButNotInAReplay) {
  TempFolder folder;
  const std::filesystem::path path = folder / "cache";
  { AnswerCache(path, Options()).Store(Key(0), Velocity(1)); }
  GetParam().second(path);
  AnswerCache::Options replay = Options();
  replay.replay = true;
  EXPECT_THAT(ErrorOf([&] { AnswerCache(path, replay); }), HasSubstr("a replay needs it as it was"));
  AnswerCache cache(path, Options());
  EXPECT_FALSE(LookedUp(cache, Key(0)));
  cache.Store(Key(0), Velocity(2));
  cache.Sync();
  EXPECT_TRUE(LookedUp(cache, Key(0)));
  int aside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    aside += entry.path().filename().string().starts_with("cache.damaged-") ? 1 : 0;
  EXPECT_EQ(aside, 1);
}

template <typename Action>
void ForFiles(const std::filesystem::path& folder, const std::string& start, const std::string& end, Action action) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(start) && name.ends_with(end)) action(entry.path());
  }
}

using std::filesystem::path;
INSTANTIATE_TEST_SUITE_P(
    AnswerCacheFaults, DamagedCache,
    testing::Values(std::pair{"ByAnEmptyCurrent", +[](const path& f) { WriteFileAtomically(f / "CURRENT", ""); }},
                    std::pair{"ByAMissingManifest",
                              +[](const path& f) {
                                ForFiles(f, "MANIFEST", "", [](const path& p) { std::filesystem::remove(p); });
                              }},
                    std::pair{"ByABrokenManifest",
                              +[](const path& f) {
                                ForFiles(f, "MANIFEST", "", [](const path& p) { WriteFileAtomically(p, "broken"); });
                              }},
                    std::pair{"ByAMissingTable",
                              +[](const path& f) {
                                ForFiles(f, "", ".sst", [](const path& p) { std::filesystem::remove(p); });
                              }},
                    std::pair{"ByATruncatedTable",
                              +[](const path& f) {
                                ForFiles(f, "", ".sst", [](const path& p) { std::filesystem::resize_file(p, 20); });
                              }}),
    [](const auto& info) { return info.param.first; });

}  // namespace
}  // namespace sgmd
