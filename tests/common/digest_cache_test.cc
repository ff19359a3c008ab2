#include "common/storage/digest_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class DigestCacheTest : public testing::Test {
 protected:
  // Written an hour ago and `later`.
  fs::path Write(const std::string& name, const std::string& bytes, std::chrono::nanoseconds later = 0s) const {
    WriteFileAtomically(folder_ / name, bytes);
    fs::last_write_time(folder_ / name, hour_ago_ + later);
    return folder_ / name;
  }
  // The same file, by size, mtime and inode, with other bytes: whoever reads it gets another digest.
  static void ChangeUnseen(const fs::path& path) {
    const auto time = fs::last_write_time(path);
    const auto size = fs::file_size(path);
    FILE* file = std::fopen(path.c_str(), "r+");
    std::fputs(std::string(size, '#').c_str(), file);
    std::fclose(file);
    fs::last_write_time(path, time);
  }
  fs::path file() const { return folder_ / "cache/sgmd/digests"; }

  TempFolder folder_;
  fs::file_time_type hour_ago_ = fs::file_time_type::clock::now() - 1h;
  DigestCache cache_{folder_ / "cache/sgmd/digests", 100};  // bytes
  std::string bytes_ = std::string(200, 'x');
};

TEST_F(DigestCacheTest, ReadsAFileOnce) {
  const fs::path path = Write("model", bytes_);
  const Digest digest = cache_.Of(path);
  EXPECT_EQ(digest, DigestText(bytes_));
  ChangeUnseen(path);
  ASSERT_NE(DigestFile(path), digest);
  EXPECT_EQ(cache_.Of(path), digest);
  EXPECT_EQ(DigestCache(file(), 100).Of(path), digest);
  fs::create_symlink(path, folder_ / "link");
  EXPECT_EQ(cache_.Of(folder_ / "link"), digest);
}

TEST_F(DigestCacheTest, ReadsAgainWhatLooksDifferent) {
  const fs::path path = Write("model", bytes_);
  cache_.Of(path);
  ChangeUnseen(path);
  fs::last_write_time(path, hour_ago_ + 1us);
  EXPECT_EQ(cache_.Of(path), DigestFile(path));  // mtime
  const Digest other = cache_.Of(Write("model", std::string(200, 'y'), 1us));
  EXPECT_EQ(other, DigestText(std::string(200, 'y')));                                // inode
  EXPECT_EQ(cache_.Of(Write("model", bytes_ + "y", 1us)), DigestText(bytes_ + "y"));  // size
  const std::string text = ReadFile(file());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << "one entry a path";
}

TEST_F(DigestCacheTest, DoesNotRememberSmallFilesAndThoseJustWritten) {
  cache_.Of(Write("small", std::string(100, 'x')));
  WriteFileAtomically(folder_ / "new", bytes_);
  cache_.Of(folder_ / "new");
  EXPECT_FALSE(fs::exists(file()));
  EXPECT_THROW(cache_.Of(folder_ / "absent"), Error);
}

TEST_F(DigestCacheTest, IgnoresWhatIsNotACache) {
  const fs::path path = Write("model", bytes_);
  cache_.Of(path);
  const std::string good = ReadFile(file());
  for (const std::string& text : {std::string(), std::string("\0\xff", 2), "sgmd digests 2" + good.substr(14),
                                  good.substr(0, 30), "sgmd digests 1\nxx 200 1 1 " + path.string() + "\n1 2\n"}) {
    WriteFileAtomically(file(), text);
    EXPECT_EQ(cache_.Of(path), DigestText(bytes_));
    EXPECT_EQ(ReadFile(file()), good);
  }
}

TEST_F(DigestCacheTest, DoesWithoutOne) {
  const fs::path path = Write("model", bytes_);
  EXPECT_EQ(DigestCache({}, 100).Of(path), DigestText(bytes_));
  EXPECT_EQ(DigestCache("/proc/sgmd/digests", 100).Of(path), DigestText(bytes_));
  fs::create_directories(file());  // a folder in its place
  EXPECT_EQ(cache_.Of(path), DigestText(bytes_));
}

TEST_F(DigestCacheTest, KeepsWhatSeveralAddAtOnce) {
  std::vector<fs::path> paths;
  for (int i = 0; i < 8; ++i) paths.push_back(Write(StrCat("model", i), bytes_ + std::to_string(i)));
  std::vector<std::thread> threads;
  for (const fs::path& path : paths) threads.emplace_back([&] { cache_.Of(path); });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < paths.size(); ++i) {
    ChangeUnseen(paths[i]);
    EXPECT_EQ(cache_.Of(paths[i]), DigestText(bytes_ + std::to_string(i)));
  }
}

TEST_F(DigestCacheTest, LiesWhereTheUserKeepsCaches) {
  const fs::path path = Write("model", std::string(DigestCache::kLarge + 1, 'x'));
  const std::string home = std::getenv("HOME") != nullptr ? std::getenv("HOME") : "";
  ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
  DigestCache::OfUser().Of(path);
  EXPECT_TRUE(fs::exists(file()));
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", (folder_ / "home").c_str(), 1);
  DigestCache::OfUser().Of(path);
  ::setenv("HOME", home.c_str(), 1);
  EXPECT_TRUE(fs::exists(folder_ / "home/.cache/sgmd/digests"));
}

}  // namespace
}  // namespace sgmd
