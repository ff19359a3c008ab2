// How the fields of a message go into an envelope and come out of it: each message lists them once (its Fields), for
// both ways.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/transport/envelope.h"

namespace sgmd {

/// Extents in the shape that a message's tensor must have.
inline constexpr std::int64_t kAny = -1;   // this one may be anything
inline constexpr std::int64_t kRest = -2;  // as the last: and any further ones

/// The dtypes that a message's tensor may have.
class DTypes {
 public:
  DTypes(DType one) : any_{one} {}  // NOLINT(google-explicit-constructor): most fields have one
  DTypes(std::initializer_list<DType> any) : any_(any) {}
  bool Has(DType dtype) const { return std::ranges::find(any_, dtype) != any_.end(); }
  /// "F32 or BF16".
  std::string Text() const;

 private:
  std::vector<DType> any_;
};

/// The first extent of `frame`: videos in the micro-batch. 0 of a scalar.
std::int64_t BatchOf(const TensorFrame& frame);

/// Puts fields into an envelope. Throws Error naming message and field where one is not what the message states.
class FieldWriter {
 public:
  explicit FieldWriter(wire::Kind kind) { envelope_.kind = kind; }

  /// A field of the header itself, such as &Envelope::text.
  template <typename Value>
  void Header(Value Envelope::*field, const Value& value) {
    envelope_.*field = value;
  }
  /// The process or file that the message is about; not empty.
  void Subject(const std::string& name);
  void Number(const char* name, std::int64_t value) { envelope_.numbers[name] = value; }
  void Scalar(const char* name, double value) { envelope_.scalars[name] = value; }
  /// Values under names that the sender chooses.
  void Scalars(const std::map<std::string, double>& values) { envelope_.scalars = values; }
  void Tensor(const char* name, const TensorFrame& tensor, const DTypes& dtypes, std::vector<std::int64_t> shape);
  /// Tensors of any shape under the names that they have; of a message that has no others.
  void Tensors(const std::vector<TensorFrame>& tensors, const DTypes& dtypes);

  Envelope Take() { return std::move(envelope_); }

 private:
  Envelope envelope_;
};

/// Takes fields out of an envelope. Throws Error naming message and field where one is missing or is not what the
/// message states.
class FieldReader {
 public:
  /// Throws Error when `envelope` is of another kind.
  FieldReader(const Envelope& envelope, wire::Kind kind);

  template <typename Value>
  void Header(Value Envelope::*field, Value& value) {
    value = envelope_.*field;
  }
  void Subject(std::string& name);
  void Number(const char* name, std::int64_t& value) { value = NumberAt(name); }
  void Number(const char* name, bool& value) { value = NumberAt(name) != 0; }
  void Scalar(const char* name, double& value);
  void Scalars(std::map<std::string, double>& values) { values = envelope_.scalars; }
  void Tensor(const char* name, TensorFrame& tensor, const DTypes& dtypes, std::vector<std::int64_t> shape);
  void Tensors(std::vector<TensorFrame>& tensors, const DTypes& dtypes);

 private:
  std::int64_t NumberAt(const char* name) const;

  const Envelope& envelope_;
};

/// The message as an envelope without identity, which the sending socket stamps on it.
template <typename Message>
Envelope ToEnvelope(const Message& message) {
  FieldWriter writer(Message::kKind);
  Message::Fields(message, writer);
  return writer.Take();
}

/// The message in `envelope`. Throws Error naming message and field when it is of another kind, or a field is missing
/// or is not what the message states.
template <typename Message>
Message FromEnvelope(const Envelope& envelope) {
  FieldReader reader(envelope, Message::kKind);
  Message message;
  Message::Fields(message, reader);
  return message;
}

}  // namespace sgmd
