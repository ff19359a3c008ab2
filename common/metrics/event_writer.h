// TensorBoard event files: length-delimited records with masked CRC32C, protobuf encoded by hand (about ten fields).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace sgmd {

/// Appends to a file `events.out.tfevents.<unix seconds>.<pid>.<n>` in `folder`; each call is one flushed record, so a
/// kill loses at most the last one. Training never ends for it: where the folder or the file cannot be written, it
/// warns once, drops what comes, and begins another file after `retry`. Not thread-safe.
class EventWriter {
 public:
  explicit EventWriter(std::filesystem::path folder, std::chrono::milliseconds retry = std::chrono::seconds(10));
  ~EventWriter();

  void Scalar(std::string_view tag, std::int64_t step, double value);
  /// `encoded` is a whole PNG or GIF file; TensorBoard plays GIFs. height and width in pixels.
  void Image(std::string_view tag, std::int64_t step, std::int64_t height, std::int64_t width,
             std::string_view encoded);

 private:
  using Clock = std::chrono::steady_clock;
  struct File;

  void Append(std::string_view tag, std::int64_t step, const std::string& content);
  void OpenIfDue();
  void OnFailure(const std::string& why);

  std::filesystem::path folder_;
  std::chrono::milliseconds retry_;
  std::unique_ptr<File> file_;    // absent while it cannot be written
  Clock::time_point next_try_{};  // while it is absent
  int files_ = 0;                 // begun
  std::int64_t lost_ = 0;         // values since the last warning
  bool warned_ = false;
};

}  // namespace sgmd
