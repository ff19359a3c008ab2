#include "tests/fuzz/harnesses.h"

#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/config/experiment.h"
#include "common/config/topology.h"
#include "common/error/error.h"
#include "common/messages/control.h"
#include "common/messages/ring.h"
#include "common/storage/checkpoint_layout.h"
#include "common/storage/safetensors.h"
#include "common/transport/credentials.h"
#include "nodes/broker/answer_value.h"
#include "tests/support/temp_folder.h"

namespace sgmd {
namespace {

using Bytes = std::span<const std::byte>;

// Runs `read`; an Error is the right answer to most inputs.
template <typename Read>
void Expecting(const Read& read) {
  try {
    read();
  } catch (const Error&) {
  }
}

// The bytes as the file `name`, in a folder of this process.
std::filesystem::path FileOf(const char* name, Bytes bytes) {
  static const TempFolder folder;
  std::ofstream file(folder / name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return folder / name;
}

// Takes values off the front of the input; zeros once it is used up.
class Source {
 public:
  explicit Source(Bytes bytes) : bytes_(bytes) {}

  template <typename Number>
  Number Take() {
    Number number{};
    const std::size_t size = std::min(sizeof number, bytes_.size());
    std::memcpy(&number, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
    return number;
  }
  Bytes First(std::size_t size) {
    const Bytes first = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(first.size());
    return first;
  }
  // As many as a byte before them says.
  Bytes Some() { return First(Take<std::uint8_t>()); }
  std::string Text() {
    const Bytes some = Some();
    return {reinterpret_cast<const char*>(some.data()), some.size()};
  }
  bool empty() const { return bytes_.empty(); }

 private:
  Bytes bytes_;
};

// Frames that own exactly their bytes, so that reading past one is found.
Frame Owned(Bytes bytes) {
  auto owner = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
  return {*owner, owner};
}

// u16 size of the flatbuffer, the flatbuffer, then frames with a byte of size each.
void ReadEnvelope(Bytes bytes) {
  Source source(bytes);
  const Bytes flatbuffer = source.First(source.Take<std::uint16_t>());
  std::vector<Frame> frames;
  while (!source.empty()) frames.push_back(Owned(source.Some()));
  // As it is, and under a checksum that fits, which no fuzzer guesses.
  Expecting([&] { DecodeEnvelope(flatbuffer, frames); });
  std::vector<std::byte> sealed(flatbuffer.begin(), flatbuffer.end());
  const std::uint64_t checksum = Checksum(flatbuffer);
  sealed.resize(sealed.size() + 8);
  std::memcpy(sealed.data() + flatbuffer.size(), &checksum, 8);
  Expecting([&] { EncodeHeader(DecodeEnvelope(sealed, frames)); });
}

TensorFrame TensorFrom(Source& source) {
  TensorFrame tensor;
  tensor.view.name = source.Text();
  tensor.view.dtype = static_cast<DType>(source.Take<std::uint8_t>() % kDTypeCount);
  tensor.view.shape.resize(source.Take<std::uint8_t>() % 9);
  for (std::int64_t& extent : tensor.view.shape) extent = source.Take<std::uint8_t>();
  const Frame frame = Owned(source.Some());
  tensor.view.bytes = frame.bytes;
  tensor.owner = frame.owner;
  return tensor;
}

Envelope EnvelopeFrom(Source& source) {
  Envelope e;
  e.kind = static_cast<wire::Kind>(source.Take<std::uint8_t>());
  e.step = source.Take<std::int64_t>();
  e.index = source.Take<std::int32_t>();
  e.subject = source.Text();
  e.text = source.Text();
  for (int n = source.Take<std::uint8_t>() % 8; n > 0; --n) e.numbers[source.Text()] = source.Take<std::int64_t>();
  for (int n = source.Take<std::uint8_t>() % 8; n > 0; --n) e.scalars[source.Text()] = source.Take<double>();
  for (int n = source.Take<std::uint8_t>() % 8; n > 0; --n) e.tensors.push_back(TensorFrom(source));
  return e;
}

// What was read as a message must go back into an envelope.
template <typename... Messages>
void ReadAs(const Envelope& envelope) {
  (Expecting([&] { ToEnvelope(FromEnvelope<Messages>(envelope)); }), ...);
}

void ReadMessage(Bytes bytes) {
  Source source(bytes);
  const Envelope e = EnvelopeFrom(source);
  using namespace message;
  ReadAs<Hello, Refused, Failed, CheckpointOrder, CheckpointPart, Finished, Sample, ScoreLease, Score, ScoredSample,
         Gradient, InnerSample, AnchorRequest, AnchorLease, Anchor, ServedAnchor, StudentWeights, Credit, Beat, Status,
         Scale, Scaled, NodeExited, RoleFailed>(e);
}

void ReadSafetensors(Bytes bytes) {
  Expecting([&] {
    const SafetensorsFile file = SafetensorsFile::Open(FileOf("a.safetensors", bytes));
    std::uint64_t sum = 0;
    for (const TensorView& view : file.tensors()) sum += Checksum(view.bytes) + Checksum(file.At(view.name).bytes);
    if (sum == 1) throw std::logic_error("the sum is used");
  });
}

void ReadExperiment(Bytes bytes) {
  Expecting([&] { ToToml(LoadExperiment(FileOf("experiment.toml", bytes), RequiredFiles::kNone)); });
}

// An experiment named "experiment.toml" is there.
void ReadTopologyFile(Bytes bytes) {
  FileOf("experiment.toml", {});
  Expecting([&] { ToToml(ReadTopology(FileOf("topology.toml", bytes))); });
}

void ReadManifest(Bytes bytes) {
  Expecting([&] {
    const std::filesystem::path folder = FileOf("MANIFEST.json", bytes).parent_path();
    const CheckpointManifest manifest = CheckpointManifest::Read(folder);
    for (const std::string_view state : {kModelState, kOptimizerState}) manifest.FilesOf("generator", state, folder);
  });
}

// As it is, and under a checksum that fits.
void ReadAnswer(Bytes bytes) {
  std::string value(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  DecodeAnswer(std::make_shared<std::string>(value));
  if (value.size() < 16) return;
  const std::size_t start =
      std::min(value.size(), 16 + 8 * static_cast<std::size_t>(static_cast<std::uint8_t>(value[6])));
  const std::uint64_t checksum = Checksum(bytes.subspan(start));
  std::memcpy(value.data() + 8, &checksum, 8);
  if (const auto frame = DecodeAnswer(std::make_shared<std::string>(value))) {
    if (EncodeAnswer({frame->view, frame->owner}) != value) throw std::logic_error("an answer is not what was read");
  }
}

// The bytes as every file of a keys folder. A key that is taken is one to libzmq too, and stands for these bytes alone.
void ReadKeys(Bytes bytes) {
  static zmq::context_t context;
  static zmq::socket_t socket(context, zmq::socket_type::dealer);
  std::filesystem::path folder;
  for (const char* name : {"generator.public", "generator.secret", "server.public", "server.secret", "token"}) {
    const std::filesystem::path path = FileOf(name, bytes);
    std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    folder = path.parent_path();
  }
  Expecting([&] {
    const Credentials credentials = LoadCredentials(folder, "generator", /*encrypted=*/false);
    UseCredentials(socket, credentials);
    if (LoadGateKeys(folder, {}, /*encrypted=*/false).token != credentials.token)
      throw std::logic_error("a token is not what was read");
  });
  Expecting([&] {
    const Credentials credentials = LoadCredentials(folder, "generator", /*encrypted=*/true);
    UseCredentials(socket, credentials);
    std::uint8_t key[32] = {};
    char text[41] = {};
    zmq_z85_decode(key, credentials.public_key.c_str());
    zmq_z85_encode(text, key, sizeof key);
    const GateKeys keys = LoadGateKeys(folder, {"generator"}, /*encrypted=*/true);
    if (!keys.users.contains(text)) throw std::logic_error("a key is not what was read");
  });
}

constexpr Harness kHarnesses[] = {
    {"envelope", ReadEnvelope},       {"message", ReadMessage},
    {"safetensors", ReadSafetensors}, {"experiment", ReadExperiment},
    {"topology", ReadTopologyFile},   {"manifest", ReadManifest},
    {"answer", ReadAnswer},           {"keys", ReadKeys},
};

}  // namespace

std::span<const Harness> Harnesses() { return kHarnesses; }

}  // namespace sgmd
