// Writes the first inputs of the corpora that are not texts: fuzz_seeds FOLDER. To be run again when a format changes.
#include <cstring>
#include <iostream>

#include "common/error/error.h"
#include "common/messages/control.h"
#include "common/messages/ring.h"
#include "common/storage/atomic_folder.h"
#include "common/storage/safetensors.h"
#include "nodes/broker/answer_value.h"

namespace sgmd {
namespace {

TensorFrame Floats(const std::string& name, std::vector<std::int64_t> shape) {
  const auto size =
      static_cast<std::size_t>(ByteSize(DType::kF32)) * static_cast<std::size_t>(CheckedByteSize(DType::kU8, shape));
  auto bytes = std::make_shared<std::vector<std::byte>>(size, std::byte{1});
  return {{name, DType::kF32, std::move(shape), *bytes}, bytes};
}

message::Gradient SomeGradient() {
  message::Gradient gradient{{7, 1}, 6, true, {{"generator_loss", 0.5}}, {}};
  gradient.gradient = Floats("", {2, 1, 1, 2, 2});
  return gradient;
}

std::vector<Envelope> SomeEnvelopes() {
  return {ToEnvelope(SomeGradient()), ToEnvelope(message::Credit{2}), ToEnvelope(message::Hello{}),
          ToEnvelope(message::CheckpointPart{8, "generator.model.safetensors", {1, 2}, 3, 0.5}),
          ToEnvelope(message::Beat{})};
}

// As harnesses.cc reads it.
std::string EnvelopeInput(Envelope envelope) {
  envelope.node = "fake_score";
  const std::vector<std::byte> header = EncodeHeader(envelope);
  const auto size = static_cast<std::uint16_t>(header.size() - 8);
  std::string text(reinterpret_cast<const char*>(&size), 2);
  text.append(reinterpret_cast<const char*>(header.data()), size);
  for (const TensorFrame& tensor : envelope.tensors) {
    text.push_back(static_cast<char>(tensor.view.bytes.size()));
    text.append(reinterpret_cast<const char*>(tensor.view.bytes.data()), tensor.view.bytes.size());
  }
  return text;
}

class Sink {
 public:
  template <typename Number>
  void Put(Number number) {
    text_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void Text(std::string_view some) {
    Put(static_cast<std::uint8_t>(some.size()));
    text_ += some;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// As harnesses.cc takes it apart.
std::string MessageInput(const Envelope& e) {
  Sink sink;
  sink.Put(static_cast<std::uint8_t>(e.kind));
  sink.Put(e.step);
  sink.Put(e.index);
  sink.Text(e.subject);
  sink.Text(e.text);
  sink.Put(static_cast<std::uint8_t>(e.numbers.size()));
  for (const auto& [name, value] : e.numbers) sink.Text(name), sink.Put(value);
  sink.Put(static_cast<std::uint8_t>(e.scalars.size()));
  for (const auto& [name, value] : e.scalars) sink.Text(name), sink.Put(value);
  sink.Put(static_cast<std::uint8_t>(e.tensors.size()));
  for (const auto& [view, owner] : e.tensors) {
    sink.Text(view.name);
    sink.Put(static_cast<std::uint8_t>(view.dtype));
    sink.Put(static_cast<std::uint8_t>(view.shape.size()));
    for (const std::int64_t extent : view.shape) sink.Put(static_cast<std::uint8_t>(extent));
    sink.Text({reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()});
  }
  return sink.text();
}

void WriteSeeds(const std::filesystem::path& corpora) {
  const auto folder = [&](const char* name) {
    std::filesystem::create_directories(corpora / name);
    return corpora / name;
  };
  int number = 0;
  for (const Envelope& envelope : SomeEnvelopes()) {
    const std::string name = StrCat("seed-", ++number);
    WriteFileAtomically(folder("envelope") / name, EnvelopeInput(envelope));
    WriteFileAtomically(folder("message") / name, MessageInput(envelope));
    std::vector<TensorView> views;
    for (const TensorFrame& tensor : envelope.tensors) views.push_back(tensor.view);
    WriteSafetensors(folder("safetensors") / name, views, {{"made_by", name}});
    if (number > 3) continue;
    WriteFileAtomically(folder("answer") / name, EncodeAnswer(Floats("", {number, 2})));
  }
}

}  // namespace
}  // namespace sgmd

int main(int argc, char** argv) {
  return sgmd::RunGuarded("fuzz_seeds", [&] {
    if (argc != 2) throw sgmd::Error("fuzz_seeds takes the folder of the corpora");
    sgmd::WriteSeeds(argv[1]);
    return 0;
  });
}
