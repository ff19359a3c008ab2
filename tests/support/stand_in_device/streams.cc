#include "tests/support/stand_in_device/streams.h"

#include <c10/util/Exception.h>

#include <map>
#include <mutex>
#include <unordered_map>

namespace sgmd::stand_in {
namespace {

using Key = std::pair<c10::DeviceIndex, c10::StreamId>;
// How much of what each stream has done is known to be over.
using Seen = std::map<Key, std::int64_t>;

thread_local std::map<c10::DeviceIndex, c10::StreamId> current;

struct Streams {
  std::mutex mutex;
  std::map<Key, Seen> seen;
  std::unordered_map<const void*, std::pair<Key, std::int64_t>> last;  // who touched memory last, and when
  c10::StreamId next = 1;

  static Streams& Get() {
    static auto* streams = new Streams;  // tensors may outlive what is static
    return *streams;
  }
};

Key KeyOf(c10::Stream stream) { return {stream.device_index(), stream.id()}; }

}  // namespace

c10::Stream CurrentStream(c10::Device device) {
  return c10::Stream(c10::Stream::UNSAFE, device, current[device.index()]);
}

c10::Stream ExchangeStream(c10::Stream stream) {
  const c10::Stream before = CurrentStream(stream.device());
  current[stream.device_index()] = stream.id();
  return before;
}

c10::Stream NewStream(c10::Device device) {
  const std::lock_guard lock(Streams::Get().mutex);
  return c10::Stream(c10::Stream::UNSAFE, device, Streams::Get().next++);
}

void RecordEvent(void** event, c10::Stream stream) {
  const std::lock_guard lock(Streams::Get().mutex);
  if (*event == nullptr) *event = new Seen;
  *static_cast<Seen*>(*event) = Streams::Get().seen[KeyOf(stream)];
}

void WaitForEvent(const void* event, c10::Stream stream) {
  const std::lock_guard lock(Streams::Get().mutex);
  Seen& seen = Streams::Get().seen[KeyOf(stream)];
  for (const auto& [key, time] : *static_cast<const Seen*>(event)) seen[key] = std::max(seen[key], time);
}

void DestroyEvent(void* event) { delete static_cast<Seen*>(event); }

void Touch(const void* memory, c10::Device device) {
  const Key key = KeyOf(CurrentStream(device));
  Streams& streams = Streams::Get();
  const std::lock_guard lock(streams.mutex);
  Seen& seen = streams.seen[key];
  if (const auto last = streams.last.find(memory); last != streams.last.end()) {
    const auto& [by, time] = last->second;
    TORCH_CHECK(by == key || seen[by] >= time, "a race on ", device, ": stream ", key.second, " uses memory of stream ",
                by.second, ", for which it has not waited");
  }
  streams.last[memory] = {key, ++seen[key]};
}

void Forget(const void* memory) {
  const std::lock_guard lock(Streams::Get().mutex);
  Streams::Get().last.erase(memory);
}

}  // namespace sgmd::stand_in
