#include "common/metrics/event_writer.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <string>

#include "common/error/error.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/metrics/crc32c.h"

namespace sgmd {
namespace {

// Protobuf wire types: 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32.
void PutVarint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

template <typename T>
void PutFixed(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void PutField(std::string& out, int field, int wire_type) {
  PutVarint(out, static_cast<std::uint64_t>(field << 3 | wire_type));
}

void PutBytes(std::string& out, int field, std::string_view bytes) {
  PutField(out, field, 2);
  PutVarint(out, bytes.size());
  out.append(bytes);
}

void PutInteger(std::string& out, int field, std::int64_t value) {
  PutField(out, field, 0);
  PutVarint(out, static_cast<std::uint64_t>(value));
}

std::string EventStart() {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event;
  PutField(event, 1, 1);  // wall_time
  PutFixed(event, std::bit_cast<std::uint64_t>(now));
  return event;
}

}  // namespace

// A record is: u64 length, u32 masked crc of those 8 bytes, the event, u32 masked crc of the event.
struct EventWriter::File {
  std::FILE* stream = nullptr;
  std::string path;

  explicit File(std::string where) : stream(std::fopen(where.c_str(), "ab")), path(std::move(where)) {
    if (stream == nullptr) ThrowErrno("cannot create", path);
  }
  ~File() {
    if (stream != nullptr) std::fclose(stream);
  }
  File(const File&) = delete;

  void Append(const std::string& event) {
    std::string record;
    PutFixed(record, static_cast<std::uint64_t>(event.size()));
    PutFixed(record, MaskedCrc32c(record));
    record += event;
    PutFixed(record, MaskedCrc32c(event));
    if (failpoint::Fails("events.write") || std::fwrite(record.data(), 1, record.size(), stream) != record.size() ||
        std::fflush(stream) != 0) {
      ThrowErrno("cannot write", path);
    }
  }
};

EventWriter::EventWriter(std::filesystem::path folder, std::chrono::milliseconds retry)
    : folder_(std::move(folder)), retry_(retry) {
  OpenIfDue();
}

EventWriter::~EventWriter() = default;

void EventWriter::OpenIfDue() {
  if (file_ || Clock::now() < next_try_) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  try {
    std::filesystem::create_directories(folder_);
    file_ = std::make_unique<File>(folder_ / StrCat("events.out.tfevents.", seconds, ".", ::getpid(), ".", files_++));
    std::string event = EventStart();
    PutBytes(event, 3, "brain.Event:2");
    file_->Append(event);
  } catch (const std::exception& error) {
    return OnFailure(error.what());
  }
  if (warned_) LogInfo("events are written again, to ", file_->path, "; ", lost_, " values were lost");
  warned_ = false;
  lost_ = 0;
}

void EventWriter::OnFailure(const std::string& why) {
  if (!warned_) LogWarning("events are lost: ", why, "; training goes on, and another file is tried now and then");
  warned_ = true;
  file_.reset();  // what it ends with may be half a record
  next_try_ = Clock::now() + retry_;
}

void EventWriter::Append(std::string_view tag, std::int64_t step, const std::string& content) {
  OpenIfDue();
  if (!file_) {
    ++lost_;
    return;
  }
  std::string value, summary, event = EventStart();
  PutBytes(value, 1, tag);
  value += content;
  PutBytes(summary, 1, value);
  PutInteger(event, 2, step);
  PutBytes(event, 5, summary);
  try {
    file_->Append(event);
  } catch (const Error& error) {
    ++lost_;
    OnFailure(error.what());
  }
}

void EventWriter::Scalar(std::string_view tag, std::int64_t step, double value) {
  std::string content;
  PutField(content, 2, 5);  // simple_value
  PutFixed(content, std::bit_cast<std::uint32_t>(static_cast<float>(value)));
  Append(tag, step, content);
}

void EventWriter::Image(std::string_view tag, std::int64_t step, std::int64_t height, std::int64_t width,
                        std::string_view encoded) {
  std::string image, content;
  PutInteger(image, 1, height);
  PutInteger(image, 2, width);
  PutInteger(image, 3, 3);  // RGB
  PutBytes(image, 4, encoded);
  PutBytes(content, 4, image);
  Append(tag, step, content);
}

}  // namespace sgmd
