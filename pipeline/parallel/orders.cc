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

// what, the numbers, one number a rank, bytes of the text.
void Orders::Give(const Order& order) {
  if (ranks() == 1) return;
  std::vector<std::int64_t> sent{order.what};
  sent.insert(sent.end(), order.numbers.begin(), order.numbers.end());
  sent.resize(1 + Order::kNumbers);
  sent.insert(sent.end(), order.of_ranks.begin(), order.of_ranks.end());
  sent.resize(1 + Order::kNumbers + static_cast<std::size_t>(ranks()));
  sent.push_back(static_cast<std::int64_t>(order.text.size()));
  Broadcast(at::tensor(sent, at::kLong));
  if (!order.text.empty()) Broadcast(Bytes(order.text));
}

Order Orders::Take() {
  const at::Tensor came = at::zeros({static_cast<std::int64_t>(2 + Order::kNumbers) + ranks()}, at::kLong);
  Broadcast(came);
  const std::int64_t* number = came.const_data_ptr<std::int64_t>();
  Order order;
  order.what = *number++;
  order.numbers.assign(number, number + Order::kNumbers);
  number += Order::kNumbers;
  order.of_ranks.assign(number, number + ranks());
  number += ranks();
  if (*number == 0) return order;
  const at::Tensor text = at::empty({*number}, at::kByte);
  Broadcast(text);
  order.text = Text(text);
  return order;
}

at::Tensor Orders::Scatter(const std::vector<at::Tensor>& of_ranks, const at::TensorOptions& like,
                           at::IntArrayRef shape) const {
  if (ranks() == 1) return of_ranks.at(0);
  const auto all = static_cast<std::size_t>(ranks());
  std::vector<std::int64_t> rows(shape.begin(), shape.end());
  rows.insert(rows.begin(), 1);
  const at::Tensor own = at::empty(rows, like.device(at::kCPU));
  rows.front() = rank() == 0 ? ranks() : 0;
  const at::Tensor sent = at::empty(rows, like.device(at::kCPU));
  if (rank() == 0) {
    for (std::size_t r = 0; r < all; ++r) sent[static_cast<std::int64_t>(r)].copy_(of_ranks.at(r));
  }
  Collectives::Rows from(all, 0), to(all, rank() == 0 ? 1 : 0);
  from.front() = 1;
  group_.AllToAll(own, sent, from, to).Wait();
  return own[0];
}

std::vector<at::Tensor> Orders::Gather(const at::Tensor& own) const {
  if (ranks() == 1) return {own};
  const auto all = static_cast<std::size_t>(ranks());
  const at::Tensor sent = own.detach().to(at::kCPU).contiguous().unsqueeze(0);
  std::vector<std::int64_t> rows = sent.sizes().vec();
  rows.front() = rank() == 0 ? ranks() : 0;
  const at::Tensor came = at::empty(rows, sent.options());
  Collectives::Rows from(all, rank() == 0 ? 1 : 0), to(all, 0);
  to.front() = 1;
  group_.AllToAll(came, sent, from, to).Wait();
  if (rank() > 0) return {};
  std::vector<at::Tensor> gathered{own};
  for (int r = 1; r < ranks(); ++r) gathered.push_back(came[r]);
  return gathered;
}

std::vector<std::string> Orders::Gather(const std::string& own) const {
  const auto size = static_cast<std::int64_t>(own.size());
  const at::Tensor sizes = at::empty({ranks()}, at::kLong);
  group_.AllGather(sizes, at::full({1}, size, at::kLong)).Wait();
  const std::int64_t longest = sizes.max().item<std::int64_t>();
  const std::vector<at::Tensor> came = Gather(at::constant_pad_nd(Bytes(own), {0, longest - size}));
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < came.size(); ++r)
    texts.push_back(Text(came[r].narrow(0, 0, sizes[static_cast<std::int64_t>(r)].item<std::int64_t>())));
  return texts;
}

void Orders::Broadcast(const at::Tensor& tensor) const {
  if (ranks() > 1) group_.Broadcast(tensor, 0).Wait();
}

}  // namespace sgmd
