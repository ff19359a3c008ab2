#include "common/storage/checkpoint_store.h"

#include <gtest/gtest.h>

#include "common/error/error.h"
#include "common/storage/atomic_folder.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

void Commit(const CheckpointStore& store, std::int64_t step, const std::string& content, std::int64_t keep = 10) {
  WriteFileAtomically(store.Stage(step) / "state", content);
  store.Commit(step, {{"state", DigestText(content)}}, keep);
}

TEST(CheckpointStore, FindsTheNewestWhoseDigestsVerify) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  EXPECT_FALSE(store.Newest().has_value());
  Commit(store, 9, "nine");
  Commit(store, 10, "ten");
  EXPECT_EQ(store.Newest()->step, 10);
  WriteFileAtomically(store.Newest()->folder / "state", "tampered");
  EXPECT_EQ(store.Newest()->step, 9);
}

TEST(CheckpointStore, ListsThoseThatVerifyOldestFirst) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (const int step : {9, 10, 11}) Commit(store, step, "x");
  WriteFileAtomically(store.All()[1].folder / "state", "tampered");
  ASSERT_EQ(store.All().size(), 2U);
  EXPECT_EQ(store.All()[0].step, 9);
  EXPECT_EQ(store.All()[1].step, 11);
}

TEST(CheckpointStore, IgnoresWhatWasNotCommitted) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  Commit(store, 1, "one");
  WriteFileAtomically(store.Stage(2) / "state", "half");
  EXPECT_EQ(store.Newest()->step, 1);
}

TEST(CheckpointStore, KeepsTheNewest) {
  TempFolder folder;
  const CheckpointStore store(folder.path(), {1, 2});
  for (int step = 1; step <= 4; ++step) Commit(store, step, "x", 2);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
  EXPECT_EQ(store.Newest()->step, 4);
}

TEST(CheckpointStore, RefusesAnotherExperiment) {
  TempFolder folder;
  Commit(CheckpointStore(folder.path(), {1, 2}), 1, "x");
  EXPECT_THROW(CheckpointStore(folder.path(), {3, 4}).Newest(), Error);
}

}  // namespace
}  // namespace sgmd
