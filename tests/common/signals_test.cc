#include "common/signals/signals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

namespace sgmd {

// Neither static nor inlined: its name is to be seen in a stack.
[[gnu::noinline]] void SpinUntil(const std::atomic<bool>& done) {
  while (!done) std::this_thread::yield();
}

namespace {

using testing::AllOf;
using testing::HasSubstr;

std::size_t CountOf(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Signals, TerminateAsksForAnOrderlyEndAndInterruptForOneNow) {
  const StopRequests& stop = ListenToSignals(Interrupt::kAsks);
  EXPECT_FALSE(stop.in_order);
  ::kill(::getpid(), SIGTERM);
  EXPECT_TRUE(stop.in_order);
  EXPECT_FALSE(stop.now);
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(stop.now);
}

TEST(Signals, InterruptEndsAProcessThatHasNothingToSaveAlsoWhereItWasIgnored) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_IGN);
    ListenToSignals();
    ::raise(SIGINT);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST(Signals, WhatWasHeldBackArrivesWhenTheProcessListens) {
  const pid_t child = ::fork();
  if (child == 0) {
    sigset_t held;
    ::sigemptyset(&held);
    ::sigaddset(&held, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &held, nullptr);
    ::raise(SIGTERM);
    ::_exit(ListenToSignals().in_order ? 7 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(Signals, StacksOfAllThreadsAreWrittenAndTheProcessGoesOn) {
  ListenToSignals(Interrupt::kAsks);
  std::atomic<bool> done{false};
  std::thread spinning([&] { SpinUntil(done); });
  std::thread deaf([&] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    ::pthread_setname_np(::pthread_self(), "deaf");
    while (!done) ::usleep(1000);
  });
  ::usleep(20000);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 2; ++i) ::kill(::getpid(), SIGUSR1);
  done = true;
  spinning.join();
  deaf.join();
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, AllOf(HasSubstr("SpinUntil"), HasSubstr("takes no signals: deaf\n"),
                          HasSubstr("stack of thread " + std::to_string(::getpid()) + ", ")));
  EXPECT_EQ(CountOf(text, "stack of thread "), 4U) << text;
  EXPECT_EQ(CountOf(text, "end of the stacks\n"), 2U) << text;
}

}  // namespace
}  // namespace sgmd
