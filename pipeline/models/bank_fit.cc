#include "pipeline/models/bank_fit.h"

#include "common/error/error.h"

namespace sgmd {

FirstFrames FirstFramesFor(const WanConfig& config, const std::vector<std::int64_t>& latent, const BankIndex& bank) {
  if (config.takes_image()) return {latent, config.image_dim};
  if (!config.may_hold_image() || bank.images().empty()) return {};
  std::vector<std::int64_t> one = latent;
  one[1] = 1;
  return {one};
}

void RequireFits(const BankIndex& bank, const WanConfig& config, const std::vector<std::int64_t>& latent) {
  bank.RequireFits(config.text_dim, config.text_len);
  const FirstFrames frames = FirstFramesFor(config, latent, bank);
  bank.RequireFirstFrames(frames);
  const bool holds = config.may_hold_image() && !frames.latent.empty();
  if (holds && (latent[1] == 1 || config.patch_size[0] != 1)) {
    throw Error(StrCat("a first frame cannot stand in videos of ", latent[1], " latent frames and patches of ",
                       config.patch_size[0]),
                "", "videos of two latent frames or more, and a model with patches of one frame");
  }
}

}  // namespace sgmd
