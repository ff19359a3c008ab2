#include "common/metrics/work_count.h"

#include <atomic>

namespace sgmd {
namespace {

std::atomic<std::int64_t> done{0};
std::atomic<int> waiting{0};

}  // namespace

void CountWork() { done.fetch_add(1, std::memory_order_relaxed); }

std::int64_t WorkDone() { return done.load(std::memory_order_relaxed); }

Waiting::Waiting() { ++waiting; }

Waiting::~Waiting() { --waiting; }

bool IsWaiting() { return waiting > 0; }

}  // namespace sgmd
