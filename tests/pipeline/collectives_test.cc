// What every form of a group must do, on 1, 2 and 4 ranks, and what happens when a rank dies.
#include "pipeline/parallel/collectives.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "common/error/error.h"
#include "pipeline/device/open_device.h"
#include "pipeline/parallel/process_group.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using testing::HasSubstr;

enum class Form { kSolo, kGloo, kThroughHost, kNccl };

struct Case {
  const char* name;
  Form form;
  int ranks;
};

// A group on GPUs for tensors on the CPU, so that one suite serves all.
class OnGpu : public Collectives {
 public:
  explicit OnGpu(std::unique_ptr<Collectives> gpu) : Collectives(gpu->rank(), gpu->ranks()), gpu_(std::move(gpu)) {}

 private:
  static Pending Landed(Pending pending, const at::Tensor& out, const at::Tensor& there) {
    pending.Wait();
    out.copy_(there);
    return Pending([] {});
  }
  Pending StartAllGather(const at::Tensor& out, const at::Tensor& in) override {
    const at::Tensor there = out.to(at::kCUDA);
    return Landed(gpu_->AllGather(there, in.to(at::kCUDA)), out, there);
  }
  Pending StartAllToAll(const at::Tensor& out, const at::Tensor& in, const Rows& out_rows,
                        const Rows& in_rows) override {
    const at::Tensor there = out.to(at::kCUDA);
    return Landed(gpu_->AllToAll(there, in.to(at::kCUDA), out_rows, in_rows), out, there);
  }
  Pending StartBroadcast(const at::Tensor& tensor, int root) override {
    const at::Tensor there = tensor.to(at::kCUDA);
    return Landed(gpu_->Broadcast(there, root), tensor, there);
  }
  void WaitForAll() override { gpu_->Barrier(); }

  std::unique_ptr<Collectives> gpu_;
};

bool HasGpus(int count) {
  try {
    OpenDevice(StrCat("cuda:", count - 1));
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::unique_ptr<Collectives> Connect(Form form, const Rendezvous& where) {
  if (form == Form::kSolo) return Solo();
  if (form == Form::kNccl) return std::make_unique<OnGpu>(ConnectNccl(where));
  auto gloo = ConnectGloo(where);
  return form == Form::kThroughHost ? ThroughHost(std::move(gloo)) : std::move(gloo);
}

class CollectivesContract : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().form == Form::kNccl && !(HasGpus(GetParam().ranks) && HasNccl()))
      GTEST_SKIP() << "no NCCL, or too few GPUs";
  }
  // `body` on every rank, each a thread with an end of its own.
  void OnEveryRank(const std::function<void(Collectives&)>& body) {
    const TempFolder folder;
    std::vector<std::thread> threads;
    for (int rank = 0; rank < GetParam().ranks; ++rank) {
      threads.emplace_back([&, rank] {
        if (GetParam().form == Form::kNccl) OpenDevice(StrCat("cuda:", rank));  // that of this thread
        const auto group =
            Connect(GetParam().form, {folder / "rendezvous", rank, GetParam().ranks, std::chrono::seconds(30)});
        ASSERT_EQ(group->rank(), rank);
        ASSERT_EQ(group->ranks(), GetParam().ranks);
        body(*group);
        group->Barrier();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

constexpr at::ScalarType kDTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble, at::kLong, at::kByte};

// Different on every rank, and exact in every dtype.
at::Tensor Data(int rank, at::IntArrayRef shape, at::ScalarType dtype) {
  const std::int64_t count = c10::multiply_integers(shape);
  return ((at::arange(count, at::kLong) * 7 + rank * 13) % 101).to(dtype).view(shape);
}

TEST_P(CollectivesContract, AllGatherOrdersByRank) {
  OnEveryRank([](Collectives& group) {
    for (const at::ScalarType dtype : kDTypes) {
      const at::Tensor out = at::empty({group.ranks(), 3, 5}, dtype);
      group.AllGather(out, Data(group.rank(), {3, 5}, dtype)).Wait();
      for (int rank = 0; rank < group.ranks(); ++rank) EXPECT_TRUE(at::equal(out[rank], Data(rank, {3, 5}, dtype)));
    }
  });
}

TEST_P(CollectivesContract, AllToAllSendsEachRankItsRows) {
  OnEveryRank([](Collectives& group) {
    for (const at::ScalarType dtype : kDTypes) {
      const at::Tensor in = Data(group.rank(), {2 * group.ranks(), 3}, dtype), out = at::empty_like(in);
      group.AllToAll(out, in).Wait();
      for (int rank = 0; rank < group.ranks(); ++rank) {
        const at::Tensor sent = Data(rank, {2 * group.ranks(), 3}, dtype).narrow(0, 2 * group.rank(), 2);
        EXPECT_TRUE(at::equal(out.narrow(0, 2 * rank, 2), sent));
      }
    }
  });
}

// Rank q has q rows for rank 0, q + 1 for rank 1, ...
TEST_P(CollectivesContract, AllToAllTakesUnevenRowsAndNone) {
  OnEveryRank([](Collectives& group) {
    const auto rows_between = [](int from, int to) { return std::int64_t{from} + to; };
    Collectives::Rows in_rows, out_rows;
    std::int64_t in_sum = 0, out_sum = 0;
    for (int rank = 0; rank < group.ranks(); ++rank) {
      in_rows.push_back(rows_between(group.rank(), rank));
      out_rows.push_back(rows_between(rank, group.rank()));
      in_sum += in_rows.back();
      out_sum += out_rows.back();
    }
    const at::Tensor out = at::empty({out_sum, 2}, at::kFloat);
    group.AllToAll(out, Data(group.rank(), {in_sum, 2}, at::kFloat), out_rows, in_rows).Wait();
    std::int64_t at_row = 0;
    for (int rank = 0; rank < group.ranks(); ++rank) {
      std::int64_t before = 0, all = 0;
      for (int to = 0; to < group.ranks(); ++to) {
        if (to < group.rank()) before += rows_between(rank, to);
        all += rows_between(rank, to);
      }
      const std::int64_t rows = rows_between(rank, group.rank());
      EXPECT_TRUE(at::equal(out.narrow(0, at_row, rows), Data(rank, {all, 2}, at::kFloat).narrow(0, before, rows)));
      at_row += rows;
    }
  });
}

TEST_P(CollectivesContract, BroadcastGivesEveryRankThatOfTheRoot) {
  OnEveryRank([](Collectives& group) {
    for (int root = 0; root < group.ranks(); ++root) {
      const at::Tensor tensor = Data(group.rank(), {7}, at::kBFloat16);
      group.Broadcast(tensor, root).Wait();
      EXPECT_TRUE(at::equal(tensor, Data(root, {7}, at::kBFloat16)));
    }
  });
}

TEST_P(CollectivesContract, PendingOnesEndInAnyOrder) {
  OnEveryRank([](Collectives& group) {
    const at::Tensor first = at::empty({group.ranks()}, at::kLong), second = at::empty_like(first);
    auto one = group.AllGather(first, at::full({1}, group.rank(), at::kLong));
    auto two = group.AllGather(second, at::full({1}, -group.rank(), at::kLong));
    two.Wait();
    one.Wait();
    EXPECT_TRUE(at::equal(first, at::arange(group.ranks(), at::kLong)));
    EXPECT_TRUE(at::equal(second, -first));
  });
}

TEST_P(CollectivesContract, RefusesShapesThatDoNotFitBeforeAnythingIsSent) {
  OnEveryRank([](Collectives& group) {
    const int ranks = group.ranks();
    const auto error_of = [](const std::function<void()>& call) {
      try {
        call();
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    const at::Tensor x = at::zeros({ranks, 2});
    const auto gather = [&](const at::Tensor& out, const at::Tensor& in) {
      return error_of([&] { group.AllGather(out, in).Wait(); });
    };
    EXPECT_THAT(gather(at::empty({ranks * 2 + 1}), at::zeros({2})), HasSubstr("[2] Float does not fit into ["));
    EXPECT_THAT(gather(at::empty({ranks * 2}, at::kDouble), at::zeros({2})), HasSubstr("does not fit"));
    EXPECT_THAT(gather(at::empty({ranks, 4}), at::zeros({4, 2}).t().slice(0, 0, 2)), HasSubstr("not contiguous"));
    EXPECT_THAT(error_of([&] { group.AllToAll(at::empty({ranks, 3}), x).Wait(); }), HasSubstr("does not fit"));
    EXPECT_THAT(error_of([&] {
                  group.AllToAll(at::empty({ranks, 2}), x, {1}, {1, 2}).Wait();
                }),
                HasSubstr("does not fit"));
    EXPECT_THAT(error_of([&] { group.Broadcast(x, ranks).Wait(); }), HasSubstr("from rank"));
  });
}

INSTANTIATE_TEST_SUITE_P(Every, CollectivesContract,
                         testing::Values(Case{"Solo", Form::kSolo, 1}, Case{"Gloo1", Form::kGloo, 1},
                                         Case{"Gloo2", Form::kGloo, 2}, Case{"Gloo4", Form::kGloo, 4},
                                         Case{"ThroughHost2", Form::kThroughHost, 2}, Case{"Nccl1", Form::kNccl, 1},
                                         Case{"Nccl2", Form::kNccl, 2}),
                         [](const auto& info) { return info.param.name; });

// Of a group of two processes, this one and one that `other` is run in.
class TwoProcesses : public testing::Test {
 protected:
  void Start(const std::function<void(Collectives&)>& other) {
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      other(*ConnectGloo({folder_ / "rendezvous", 1, 2, std::chrono::seconds(20)}));
      ::_exit(0);
    }
    group_ = ConnectGloo({folder_ / "rendezvous", 0, 2, std::chrono::seconds(3)});
  }
  ~TwoProcesses() override {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  std::string ErrorOfGathering() {
    try {
      for (int i = 0; i < 1000; ++i) group_->AllGather(at::empty({2}), at::zeros({1})).Wait();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const TempFolder folder_;
  pid_t child_ = -1;
  std::unique_ptr<Collectives> group_;
};

TEST_F(TwoProcesses, OneThatIsKilledIsAnErrorOfTheOtherAtOnce) {
  Start([](Collectives& group) {
    for (int i = 0; i < 20; ++i) group.AllGather(at::empty({2}), at::zeros({1})).Wait();
    ::kill(::getpid(), SIGKILL);
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(ErrorOfGathering(), HasSubstr("rank 0 of 2: all-gather failed"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(TwoProcesses, OneThatStandsStillIsAnErrorAtTheTimeout) {
  Start([](Collectives& group) {
    group.AllGather(at::empty({2}), at::zeros({1})).Wait();
    ::pause();
  });
  EXPECT_THAT(ErrorOfGathering(), HasSubstr("rank 0 of 2: all-gather failed"));
}

TEST(Rendezvous, ThatNobodyElseComesToIsAnError) {
  const TempFolder folder;
  try {
    ConnectGloo({folder / "rendezvous", 0, 2, std::chrono::milliseconds(500)});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 of 2 did not meet the others"));
  }
}

}  // namespace
}  // namespace sgmd
