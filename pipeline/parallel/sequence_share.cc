#include "pipeline/parallel/sequence_share.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace sgmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call moves: rows are tokens, so that numbers of tokens may differ between ranks.
class Exchange {
 public:
  Exchange(const TokenShare& share, Collectives& group) : share_(share), group_(group) {}

  at::Tensor Own(const at::Tensor& tokens) const {
    const auto [first, count] = share_.RangeOf(share_.rank(), tokens.size(1));
    return tokens.narrow(1, first, count).contiguous();
  }

  at::Tensor All(const at::Tensor& tokens, std::int64_t all) const {
    const at::Tensor rows = tokens.transpose(0, 1);  // [own, B, D]
    std::vector<std::int64_t> repeats(static_cast<std::size_t>(rows.dim()), 1), shape = rows.sizes().vec();
    repeats.front() = share_.ranks();
    shape.front() = all;
    const at::Tensor out = at::empty(shape, rows.options());
    group_.AllToAll(out, rows.repeat(repeats), Counts(all), Same(rows.size(0))).Wait();
    return out.transpose(0, 1).contiguous();
  }

  at::Tensor ByHeads(const at::Tensor& x, std::int64_t all) const {
    const std::int64_t b = x.size(0), own = x.size(1), d = x.size(3), ranks = share_.ranks(), heads = x.size(2) / ranks;
    const at::Tensor rows =  // (heads of a rank, token) by token
        x.view({b, own, ranks, heads, d}).permute({2, 1, 0, 3, 4}).reshape({ranks * own, b, heads, d});
    const at::Tensor out = at::empty({all, b, heads, d}, x.options());
    group_.AllToAll(out, rows, Counts(all), Same(own)).Wait();
    return out.transpose(0, 1).contiguous();
  }

  at::Tensor ByTokens(const at::Tensor& x) const {
    const std::int64_t b = x.size(0), all = x.size(1), heads = x.size(2), d = x.size(3), ranks = share_.ranks(),
                       own = share_.RangeOf(share_.rank(), all).second;
    const at::Tensor rows = x.transpose(0, 1).contiguous(), out = at::empty({ranks * own, b, heads, d}, x.options());
    group_.AllToAll(out, rows, Same(own), Counts(all)).Wait();
    return out.view({ranks, own, b, heads, d}).permute({2, 1, 0, 3, 4}).reshape({b, own, ranks * heads, d});
  }

 private:
  Collectives::Rows Counts(std::int64_t all) const {
    Collectives::Rows rows;
    for (int rank = 0; rank < share_.ranks(); ++rank) rows.push_back(share_.RangeOf(rank, all).second);
    return rows;
  }
  Collectives::Rows Same(std::int64_t count) const {
    return Collectives::Rows(static_cast<std::size_t>(share_.ranks()), count);
  }

  const TokenShare& share_;
  Collectives& group_;
};

enum class Move : std::int64_t { kOwn, kAll, kByHeads, kByTokens };

struct Holder : torch::CustomClassHolder {
  explicit Holder(const Exchange& e) : exchange(e) {}
  const Exchange exchange;
};

at::Tensor Moved(const Exchange& exchange, Move move, const at::Tensor& x, std::int64_t all) {
  switch (move) {
    case Move::kOwn:
      return exchange.Own(x);
    case Move::kAll:
      return exchange.All(x, all);
    case Move::kByHeads:
      return exchange.ByHeads(x, all);
    case Move::kByTokens:
      return exchange.ByTokens(x);
  }
  return x;
}

Move Opposite(Move move) {
  constexpr Move kOpposites[] = {Move::kAll, Move::kOwn, Move::kByTokens, Move::kByHeads};
  return kOpposites[static_cast<std::size_t>(move)];
}

struct MoveNode : torch::autograd::Function<MoveNode> {
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Holder>& holder, std::int64_t move,
                            const at::Tensor& x, std::int64_t all) {
    context->saved_data["holder"] = c10::IValue::make_capsule(holder);
    context->saved_data["move"] = move;
    context->saved_data["all"] = all;
    return Moved(holder->exchange, static_cast<Move>(move), x, all);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& holder = static_cast<const Holder&>(*context->saved_data["holder"].toCapsule());
    const Move move = Opposite(static_cast<Move>(context->saved_data["move"].toInt()));
    return {{}, {}, Moved(holder.exchange, move, gradients[0].contiguous(), context->saved_data["all"].toInt()), {}};
  }
};

class GroupShare : public TokenShare {
 public:
  explicit GroupShare(Collectives& group)
      : TokenShare(group.rank(), group.ranks()), holder_(c10::make_intrusive<Holder>(Exchange(*this, group))) {}

  at::Tensor Own(const at::Tensor& tokens) const override { return Apply(Move::kOwn, tokens, tokens.size(1)); }
  at::Tensor All(const at::Tensor& tokens, std::int64_t all) const override { return Apply(Move::kAll, tokens, all); }
  at::Tensor ByHeads(const at::Tensor& x, std::int64_t all) const override { return Apply(Move::kByHeads, x, all); }
  at::Tensor ByTokens(const at::Tensor& x) const override { return Apply(Move::kByTokens, x, x.size(1)); }

 private:
  at::Tensor Apply(Move move, const at::Tensor& x, std::int64_t all) const {
    return MoveNode::apply(holder_, static_cast<std::int64_t>(move), x.contiguous(), all);
  }

  c10::intrusive_ptr<Holder> holder_;
};

}  // namespace

std::unique_ptr<TokenShare> ShareTokens(Collectives& group) { return std::make_unique<GroupShare>(group); }

}  // namespace sgmd
