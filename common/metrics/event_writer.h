// TensorBoard event files: length-delimited records with masked CRC32C, protobuf encoded by hand (about ten fields).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace sgmd {

/// Appends to one new file `events.out.tfevents.<unix seconds>.<pid>` in `folder`; each call is one flushed record, so
/// a kill loses at most the last one. Not thread-safe. Throws Error when the folder or file cannot be written.
class EventWriter {
 public:
  explicit EventWriter(const std::filesystem::path& folder);
  ~EventWriter();

  void Scalar(std::string_view tag, std::int64_t step, double value);
  /// `encoded` is a whole PNG or GIF file; TensorBoard plays GIFs. height and width in pixels.
  void Image(std::string_view tag, std::int64_t step, std::int64_t height, std::int64_t width,
             std::string_view encoded);

 private:
  struct File;
  std::unique_ptr<File> file_;
};

}  // namespace sgmd
