#include "common/transport/envelope.h"

#include <cstring>

#include "common/error/error.h"

namespace sgmd {
namespace {

constexpr int kVerifierDepth = 8;
constexpr int kVerifierTables = 512;
constexpr std::size_t kMinFlatbufferBytes = 8;  // root offset and file identifier
constexpr std::size_t kTrailerBytes = 8;        // XXH3-64 of the flatbuffer before it

static_assert(static_cast<int>(wire::DType::U64) + 1 == kDTypeCount, "wire::DType and DType list the same types");

wire::Digest128 ToWire(const Digest& digest) { return {digest.hi, digest.lo}; }

Digest FromWire(const wire::Digest128* digest) {
  return digest == nullptr ? Digest{} : Digest{digest->hi(), digest->lo()};
}

std::string TextOf(const flatbuffers::String* text) { return text == nullptr ? std::string() : text->str(); }

// The flatbuffer of a header frame, copied because the verifier reads aligned words and a received frame starts
// anywhere.
std::vector<std::byte> CheckedFlatbuffer(std::span<const std::byte> frame) {
  if (frame.size() < kMinFlatbufferBytes + kTrailerBytes) throw Error("message header is too short");
  const auto flatbuffer = frame.first(frame.size() - kTrailerBytes);
  std::uint64_t checksum = 0;
  std::memcpy(&checksum, frame.data() + flatbuffer.size(), kTrailerBytes);
  if (Checksum(flatbuffer) != checksum) throw Error("message header: checksum mismatch");
  return {flatbuffer.begin(), flatbuffer.end()};
}

Envelope DecodeFields(const wire::Header& h) {
  Envelope e;
  e.kind = h.kind();
  e.node = TextOf(h.node());
  e.run_id = FromWire(h.run_id());
  e.epoch = h.epoch();
  e.request_id = h.request_id();
  e.attempt = h.attempt();
  e.step = h.step();
  e.index = h.index();
  e.digest = FromWire(h.digest());
  e.text = TextOf(h.text());
  e.subject = TextOf(h.subject());
  e.process = h.process();
  e.progress = h.progress();
  e.number = h.number();
  e.received = h.received();
  if (h.numbers() != nullptr) {
    for (const wire::NamedNumber* number : *h.numbers()) e.numbers.emplace(number->name()->str(), number->value());
  }
  if (h.scalars() != nullptr) {
    for (const wire::NamedScalar* scalar : *h.scalars()) e.scalars.emplace(scalar->name()->str(), scalar->value());
  }
  return e;
}

TensorFrame DecodeTensor(const wire::TensorDesc& desc, Frame frame, const EnvelopeLimits& limits) {
  TensorFrame tensor;
  tensor.view.name = desc.name()->str();
  if (desc.dtype() > wire::DType::MAX) throw Error(StrCat("tensor ", tensor.view.name, ": unknown dtype"));
  tensor.view.dtype = static_cast<DType>(desc.dtype());
  const std::size_t rank = desc.shape() == nullptr ? 0 : desc.shape()->size();
  if (rank > limits.max_rank) throw Error(StrCat("tensor ", tensor.view.name, ": rank over the limit"));
  tensor.view.shape.resize(rank);
  // Copied as bytes: the verifier does not hold a sender to the alignment of 64-bit elements.
  if (rank > 0) std::memcpy(tensor.view.shape.data(), desc.shape()->Data(), sizeof(std::int64_t) * rank);
  if (frame.bytes.size() > limits.max_frame_bytes ||
      CheckedByteSize(tensor.view.dtype, tensor.view.shape) != frame.bytes.size()) {
    throw Error(StrCat("tensor ", tensor.view.name, ": shape and frame size disagree"));
  }
  if (Checksum(frame.bytes) != desc.checksum()) throw Error(StrCat("tensor ", tensor.view.name, ": checksum mismatch"));
  tensor.checksum = desc.checksum();
  tensor.view.bytes = frame.bytes;
  tensor.owner = std::move(frame.owner);
  return tensor;
}

auto BuildTensors(flatbuffers::FlatBufferBuilder& builder, const Envelope& e) {
  std::vector<flatbuffers::Offset<wire::TensorDesc>> tensors;
  for (const TensorFrame& tensor : e.tensors) {
    tensors.push_back(wire::CreateTensorDesc(builder, builder.CreateString(tensor.view.name),
                                             static_cast<wire::DType>(tensor.view.dtype),
                                             builder.CreateVector(tensor.view.shape), tensor.ChecksumOnce()));
  }
  return builder.CreateVector(tensors);
}

template <typename Value, typename Create>
auto BuildNamed(flatbuffers::FlatBufferBuilder& builder, const std::map<std::string, Value>& values, Create create) {
  std::vector<decltype(create(builder, {}, Value{}))> entries;
  for (const auto& [name, value] : values) entries.push_back(create(builder, builder.CreateString(name), value));
  return builder.CreateVector(entries);
}

}  // namespace

const TensorFrame* Envelope::Find(std::string_view name) const {
  for (const TensorFrame& tensor : tensors) {
    if (tensor.view.name == name) return &tensor;
  }
  return nullptr;
}

const TensorFrame& Envelope::At(std::string_view name) const {
  if (const TensorFrame* tensor = Find(name)) return *tensor;
  throw Error(StrCat(wire::EnumNameKind(kind), " of ", node, " has no tensor ", name));
}

std::vector<std::byte> EncodeHeader(const Envelope& e) {
  flatbuffers::FlatBufferBuilder builder(1024);
  const auto tensors = BuildTensors(builder, e);
  const auto scalars = BuildNamed(builder, e.scalars, wire::CreateNamedScalar);
  const auto numbers = BuildNamed(builder, e.numbers, wire::CreateNamedNumber);
  const wire::Digest128 run_id = ToWire(e.run_id), digest = ToWire(e.digest);
  const auto node = builder.CreateString(e.node), text = builder.CreateString(e.text);
  const auto subject = builder.CreateString(e.subject);
  wire::FinishHeaderBuffer(builder, wire::CreateHeader(builder, e.kind, node, &run_id, e.epoch, e.request_id, e.attempt,
                                                       e.step, e.index, &digest, text, scalars, tensors, subject,
                                                       e.process, e.progress, numbers, e.number, e.received));
  const auto flatbuffer = std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()));
  std::vector<std::byte> frame(flatbuffer.size() + kTrailerBytes);
  const std::uint64_t checksum = Checksum(flatbuffer);
  std::memcpy(frame.data(), flatbuffer.data(), flatbuffer.size());
  std::memcpy(frame.data() + flatbuffer.size(), &checksum, kTrailerBytes);
  return frame;
}

Envelope DecodeEnvelope(std::span<const std::byte> header, std::vector<Frame> frames, const EnvelopeLimits& limits) {
  if (header.size() > limits.max_header_bytes) throw Error("message header over the size limit");
  if (frames.size() > limits.max_tensors) throw Error("message with too many frames");
  const std::vector<std::byte> aligned = CheckedFlatbuffer(header);
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(aligned.data()), aligned.size(), kVerifierDepth,
                                 kVerifierTables);
  if (!wire::VerifyHeaderBuffer(verifier)) throw Error("message header is not a valid Header");
  const wire::Header& h = *wire::GetHeader(aligned.data());
  Envelope e = DecodeFields(h);
  const std::size_t described = h.tensors() == nullptr ? 0 : h.tensors()->size();
  if (described != frames.size())
    throw Error(StrCat("message describes ", described, " tensors and has ", frames.size()));
  for (std::size_t i = 0; i < described; ++i) {
    e.tensors.push_back(DecodeTensor(*h.tensors()->Get(i), std::move(frames[i]), limits));
  }
  return e;
}

}  // namespace sgmd
