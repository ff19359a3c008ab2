#include "pipeline/parallel/orders.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "common/error/error.h"

namespace sgmd {
namespace {

at::Tensor Bytes(const std::string& text) {
  const at::Tensor bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  if (!text.empty()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

std::string Text(const at::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

}  // namespace

// what, the numbers, one number a place, bytes of the text.
void Orders::Give(const Order& order) {
  if (ranks() == 1) return;
  std::vector<std::int64_t> sent{order.what};
  sent.insert(sent.end(), order.numbers.begin(), order.numbers.end());
  sent.resize(1 + Order::kNumbers);
  sent.insert(sent.end(), order.round.begin(), order.round.end());
  sent.resize(1 + Order::kNumbers + static_cast<std::size_t>(round()));
  sent.push_back(static_cast<std::int64_t>(order.text.size()));
  Broadcast(at::tensor(sent, at::kLong));
  if (!order.text.empty()) Broadcast(Bytes(order.text));
}

Order Orders::Take() {
  const at::Tensor came = at::zeros({static_cast<std::int64_t>(2 + Order::kNumbers) + round()}, at::kLong);
  Broadcast(came);
  const std::int64_t* number = came.const_data_ptr<std::int64_t>();
  Order order;
  order.what = *number++;
  order.numbers.assign(number, number + Order::kNumbers);
  number += Order::kNumbers;
  order.round.assign(number, number + round());
  number += round();
  if (*number == 0) return order;
  const at::Tensor text = at::empty({*number}, at::kByte);
  Broadcast(text);
  order.text = Text(text);
  return order;
}

at::Tensor Orders::Scatter(const std::vector<at::Tensor>& of_round, const at::TensorOptions& like,
                           at::IntArrayRef shape) const {
  if (ranks() == 1) return of_round.at(0);
  const auto all = static_cast<std::size_t>(ranks());
  std::vector<std::int64_t> rows(shape.begin(), shape.end());
  rows.insert(rows.begin(), 1);
  const at::Tensor own = at::empty(rows, like.device(at::kCPU));
  rows.front() = rank() == 0 ? ranks() : 0;
  const at::Tensor sent = at::empty(rows, like.device(at::kCPU));
  if (rank() == 0) {
    for (int r = 0; r < ranks(); ++r) sent[r].copy_(of_round.at(static_cast<std::size_t>(r / shared_)));
  }
  Collectives::Rows from(all, 0), to(all, rank() == 0 ? 1 : 0);
  from.front() = 1;
  host_->AllToAll(own, sent, from, to).Wait();
  return own[0];
}

std::vector<at::Tensor> Orders::Gather(const at::Tensor& own) const {
  if (ranks() == 1) return {own};
  const auto all = static_cast<std::size_t>(ranks());
  at::Tensor sent = own.detach().to(at::kCPU).contiguous().unsqueeze(0);
  if (!first_of_place()) sent = sent.narrow(0, 0, 0);
  std::vector<std::int64_t> rows = sent.sizes().vec();
  rows.front() = rank() == 0 ? round() : 0;
  const at::Tensor came = at::empty(rows, sent.options());
  Collectives::Rows from(all, 0), to(all, 0);
  for (int r = 0; rank() == 0 && r < ranks(); r += shared_) from[static_cast<std::size_t>(r)] = 1;
  to.front() = sent.size(0);
  host_->AllToAll(came, sent, from, to).Wait();
  if (rank() > 0) return {};
  std::vector<at::Tensor> gathered{own};
  for (int place = 1; place < round(); ++place) gathered.push_back(came[place]);
  return gathered;
}

std::vector<std::string> Orders::GatherTexts(const std::string& own) const {
  const auto size = static_cast<std::int64_t>(own.size());
  const at::Tensor sizes = at::empty({ranks()}, at::kLong);
  host_->AllGather(sizes, at::full({1}, size, at::kLong)).Wait();
  const std::int64_t longest = sizes.max().item<std::int64_t>();
  const at::Tensor all = at::empty({ranks(), longest}, at::kByte);
  host_->AllGather(all, at::constant_pad_nd(Bytes(own), {0, longest - size})).Wait();
  std::vector<std::string> texts;
  for (int r = 0; rank() == 0 && r < ranks(); ++r)
    texts.push_back(Text(all[r].narrow(0, 0, sizes[r].item<std::int64_t>())));
  return texts;
}

void Orders::Broadcast(const at::Tensor& tensor) const {
  if (ranks() > 1) host_->Broadcast(tensor, 0).Wait();
}

}  // namespace sgmd
