#include "common/messages/fields.h"

#include "common/error/error.h"

namespace sgmd {
namespace {

std::string Sentence(const Envelope& e) {
  return StrCat(wire::EnumNameKind(e.kind), e.node.empty() ? "" : " of " + e.node);
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += extent == kAny ? "any" : extent == kRest ? "..." : std::to_string(extent);
  }
  return text + "]";
}

bool Fits(const std::vector<std::int64_t>& shape, std::vector<std::int64_t> wanted) {
  const bool open = !wanted.empty() && wanted.back() == kRest;
  if (open) wanted.pop_back();
  if (open ? shape.size() < wanted.size() : shape.size() != wanted.size()) return false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] != kAny && wanted[i] != shape[i]) return false;
  }
  return true;
}

void CheckTensor(const Envelope& e, const std::string& name, const TensorView& view, const DTypes& dtypes,
                 const std::vector<std::int64_t>& shape) {
  if (!dtypes.Has(view.dtype)) {
    throw Error(
        StrCat(Sentence(e), ": tensor ", name, " does not have the dtype ", dtypes.Text(), " but ", Name(view.dtype)));
  }
  if (!Fits(view.shape, shape)) {
    throw Error(StrCat(Sentence(e), ": tensor ", name, " does not have the shape ", ShapeText(shape), " but ",
                       ShapeText(view.shape)));
  }
}

void CheckSubject(const Envelope& e, const std::string& name) {
  if (name.empty()) throw Error(Sentence(e) + " does not say what it is about");
}

}  // namespace

std::string DTypes::Text() const {
  std::string text;
  for (const DType dtype : any_) text += StrCat(text.empty() ? "" : " or ", Name(dtype));
  return text;
}

std::int64_t BatchOf(const TensorFrame& frame) { return frame.view.shape.empty() ? 0 : frame.view.shape.front(); }

void FieldWriter::Subject(const std::string& name) {
  CheckSubject(envelope_, name);
  envelope_.subject = name;
}

void FieldWriter::Tensor(const char* name, const TensorFrame& tensor, const DTypes& dtypes,
                         std::vector<std::int64_t> shape) {
  CheckTensor(envelope_, name, tensor.view, dtypes, shape);
  envelope_.tensors.push_back(tensor);
  envelope_.tensors.back().view.name = name;
}

void FieldWriter::Tensors(const std::vector<TensorFrame>& tensors, const DTypes& dtypes) {
  for (const TensorFrame& tensor : tensors) CheckTensor(envelope_, tensor.view.name, tensor.view, dtypes, {kRest});
  envelope_.tensors = tensors;
}

FieldReader::FieldReader(const Envelope& envelope, wire::Kind kind) : envelope_(envelope) {
  if (envelope.kind != kind) throw Error(StrCat(Sentence(envelope), " is not of kind ", wire::EnumNameKind(kind)));
}

void FieldReader::Subject(std::string& name) {
  CheckSubject(envelope_, envelope_.subject);
  name = envelope_.subject;
}

std::int64_t FieldReader::NumberAt(const char* name) const {
  const auto it = envelope_.numbers.find(name);
  if (it == envelope_.numbers.end()) throw Error(StrCat(Sentence(envelope_), " has no number ", name));
  return it->second;
}

void FieldReader::Scalar(const char* name, double& value) {
  const auto it = envelope_.scalars.find(name);
  if (it == envelope_.scalars.end()) throw Error(StrCat(Sentence(envelope_), " has no scalar ", name));
  value = it->second;
}

void FieldReader::Tensor(const char* name, TensorFrame& tensor, const DTypes& dtypes, std::vector<std::int64_t> shape) {
  const TensorFrame& found = envelope_.At(name);
  CheckTensor(envelope_, name, found.view, dtypes, shape);
  tensor = found;
}

void FieldReader::Tensors(std::vector<TensorFrame>& tensors, const DTypes& dtypes) {
  for (const TensorFrame& found : envelope_.tensors)
    CheckTensor(envelope_, found.view.name, found.view, dtypes, {kRest});
  tensors = envelope_.tensors;
}

}  // namespace sgmd
