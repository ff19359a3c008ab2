#include "nodes/generator/checkpoint_commit.h"

#include <gtest/gtest.h>

#include "common/storage/atomic_folder.h"
#include "nodes/fake_score/checkpoint_orders.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

class CheckpointCommitTest : public testing::Test {
 protected:
  CheckpointCommit Begin(std::int64_t keep = 10, std::int64_t resumed_from = -1) {
    return {store_, keep, resumed_from};
  }

  // Stages a file as a role does, and says so.
  void StageOwn(CheckpointCommit& commit, std::int64_t step) {
    WriteFileAtomically(commit.Folder(step) / "generator", "g");
    commit.OnOwnFiles(step, {{"generator", DigestText("g")}});
  }
  message::CheckpointPart Part(std::int64_t step, const std::string& name, std::int64_t of) {
    WriteFileAtomically(store_.Stage(step) / name, name);
    return {step, name, DigestText(name), of, 0};
  }
  static message::CheckpointPart Declined(std::int64_t step) { return {step, "model", {}, 0, 0, false}; }
  void CommitWhole(CheckpointCommit& commit, std::int64_t step) {
    StageOwn(commit, step);
    commit.OnPart(Part(step, "model", 1));
  }
  std::vector<std::int64_t> Steps() const {
    std::vector<std::int64_t> steps;
    for (const auto& checkpoint : store_.All()) steps.push_back(checkpoint.step);
    return steps;
  }
  bool AnythingStaged(std::int64_t step) const {
    return std::filesystem::exists(StagingFolder(folder_ / CheckpointFolderName(step)));
  }

  using Steps_ = std::vector<std::int64_t>;
  TempFolder folder_;
  CheckpointStore store_{folder_.path(), {1, 2}};
};

TEST_F(CheckpointCommitTest, CommitsWhenBothRolesHaveStagedEverythingInEitherOrder) {
  CheckpointCommit commit = Begin();
  StageOwn(commit, 5);
  commit.OnPart(Part(5, "model", 2));
  EXPECT_EQ(commit.committed(), -1) << "one of two files";
  commit.OnPart(Part(5, "optimizer", 2));
  EXPECT_EQ(commit.committed(), 5);
  commit.OnPart(Part(10, "model", 1));
  EXPECT_EQ(commit.committed(), 5) << "the generator's own files are not there";
  StageOwn(commit, 10);
  EXPECT_EQ(commit.committed(), 10);
  EXPECT_EQ(Steps(), (Steps_{5, 10}));
  EXPECT_EQ(store_.Newest()->manifest.files.size(), 2U);
}

TEST_F(CheckpointCommitTest, APartThatComesAgainChangesNothing) {
  CheckpointCommit commit = Begin();
  StageOwn(commit, 5);
  commit.OnPart(Part(5, "model", 2));
  commit.OnPart(Part(5, "model", 2));
  EXPECT_EQ(commit.committed(), -1);
  commit.OnPart(Part(5, "optimizer", 2));
  ASSERT_EQ(commit.committed(), 5);
  commit.OnPart({5, "optimizer", {9, 9}, 2, 0});
  EXPECT_EQ(store_.Newest()->step, 5) << "still whole";
}

TEST_F(CheckpointCommitTest, DiscardsAStepThatTheFakeScoreDeclinesBeforeOrAfter) {
  CheckpointCommit commit = Begin();
  StageOwn(commit, 5);
  commit.OnPart(Declined(5));
  EXPECT_FALSE(commit.waiting());
  EXPECT_FALSE(AnythingStaged(5));
  commit.OnPart(Declined(10));
  EXPECT_TRUE(commit.waiting()) << "the generator has not spoken";
  EXPECT_TRUE(commit.DeclinedByOther(10));
  StageOwn(commit, 10);
  EXPECT_FALSE(commit.waiting());
  EXPECT_FALSE(AnythingStaged(10));
  EXPECT_EQ(commit.committed(), -1);
  CommitWhole(commit, 15);
  EXPECT_EQ(Steps(), Steps_{15});
}

TEST_F(CheckpointCommitTest, RemovesNothingOfADeclinedStepWhileTheFakeScoreMayBeWriting) {
  CheckpointCommit commit = Begin();
  commit.OnPart(Part(5, "model", 2));
  commit.Decline(5);
  EXPECT_TRUE(AnythingStaged(5));
  EXPECT_TRUE(commit.waiting());
  commit.OnPart(Part(5, "optimizer", 2));
  EXPECT_FALSE(commit.waiting());
  EXPECT_FALSE(AnythingStaged(5));
}

TEST_F(CheckpointCommitTest, WhatComesOfADeclinedStepChangesNothing) {
  CheckpointCommit commit = Begin();
  commit.Decline(5);
  commit.OnPart(Declined(5));
  commit.OnPart(Declined(5));
  commit.OnPart({5, "model", {}, 1, 0});
  commit.OnOwnFiles(5, {});
  EXPECT_EQ(commit.committed(), -1);
  EXPECT_TRUE(Steps().empty());
}

TEST_F(CheckpointCommitTest, KeepsWhatTheStartResumedFromUntilTwoNewerExist) {
  {
    CheckpointCommit before = Begin(1);
    CommitWhole(before, 5);
  }
  CheckpointCommit commit = Begin(1, 5);
  CommitWhole(commit, 10);
  EXPECT_EQ(Steps(), (Steps_{5, 10}));
  CommitWhole(commit, 15);
  EXPECT_EQ(Steps(), Steps_{15});
}

TEST_F(CheckpointCommitTest, DamagedCheckpointsOfLaterStepsCostNoGoodOne) {
  {
    CheckpointCommit before = Begin(10);
    for (const std::int64_t step : {5, 10, 15}) CommitWhole(before, step);
  }
  for (const char* damaged : {"step-00000010", "step-00000015"})
    std::filesystem::remove(folder_ / damaged / "MANIFEST.json");
  CheckpointCommit commit = Begin(2, store_.Newest()->step);
  CommitWhole(commit, 7);
  EXPECT_EQ(Steps(), (Steps_{5, 7}));
  CommitWhole(commit, 10);
  EXPECT_EQ(Steps(), (Steps_{7, 10})) << "the damaged one is replaced";
}

TEST(CheckpointOrders, SaysThePartsAgainWhenAnOrderComesAgain) {
  CheckpointOrders orders;
  EXPECT_TRUE(orders.OnOrder(5, 4).empty());
  EXPECT_TRUE(orders.OnOrder(5, 4).empty()) << "not staged yet";
  EXPECT_FALSE(orders.Take(4));
  EXPECT_TRUE(orders.Take(5));
  EXPECT_FALSE(orders.Take(5)) << "once";
  orders.Remember({{5, "model", {1, 2}, 1, 3}});
  const CheckpointOrders::Parts again = orders.OnOrder(5, 9);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].digest, (Digest{1, 2}));
  EXPECT_FALSE(orders.Take(5)) << "the state of then is gone, and is not staged again";
}

TEST(CheckpointOrders, OneThatComesTooLateIsAnError) {
  CheckpointOrders orders;
  EXPECT_NE(ErrorOf([&] { orders.OnOrder(5, 6); }).find("came after 6 inner loops"), std::string::npos);
}

}  // namespace
}  // namespace sgmd
