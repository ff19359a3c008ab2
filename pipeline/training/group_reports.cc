#include "pipeline/training/group_reports.h"

#include <ATen/ATen.h>

#include <sstream>

namespace sgmd {

std::map<std::string, Digest> GatherDigests(const Orders& orders, const std::filesystem::path& folder,
                                            const std::vector<std::string>& own) {
  std::string lines;
  for (const std::string& name : own) lines += name + " " + DigestFile(folder / name).Hex() + "\n";
  std::map<std::string, Digest> all;
  for (const std::string& of_rank : orders.GatherTexts(lines)) {
    std::istringstream in(of_rank);
    for (std::string name, digest; in >> name >> digest;) all[name] = Digest::FromHex(digest);
  }
  return all;
}

Work GatherWork(const Orders& orders, const Work& own) {
  Work sum;
  for (const at::Tensor& work :
       orders.Gather(at::tensor({own.forward, own.backward_input, own.backward_full, own.recomputed}, at::kLong))) {
    const std::int64_t* counts = work.const_data_ptr<std::int64_t>();
    sum.forward += counts[0];
    sum.backward_input += counts[1];
    sum.backward_full += counts[2];
    sum.recomputed += counts[3];
  }
  return sum;
}

}  // namespace sgmd
