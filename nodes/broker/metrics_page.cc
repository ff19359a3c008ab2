#include "nodes/broker/metrics_page.h"

#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/error/error.h"

namespace sgmd {

using Json = nlohmann::json;

struct MetricsPage::Impl {
  explicit Impl(const std::string& listen) : exposer(listen, 1) { exposer.RegisterCollectable(registry); }

  prometheus::Exposer exposer;
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::map<std::string, std::set<std::string>> states;  // that a node has been in

  void Set(const std::string& name, double value, const prometheus::Labels& labels = {}) {
    // Families and gauges that are there already are returned as they are.
    prometheus::BuildGauge().Name("sgmd_" + name).Register(*registry).Add(labels).Set(value);
  }

  void SetNamed(const std::string& family, const Json& values) {
    for (const auto& [name, value] : values.items()) {
      if (value.is_number()) Set(family, value.get<double>(), {{"name", name}});
    }
  }

  void SetNode(const Json& node) {
    const std::string name = node.at("name"), state = node.at("state");
    states[name].insert(state);
    for (const std::string& each : states[name])
      Set("node_up", each == state ? 1 : 0, {{"node", name}, {"state", each}});
    for (const char* figure : {"idle_seconds", "silent_seconds", "progress"})
      Set(StrCat("node_", figure), node.at(figure).get<double>(), {{"node", name}});
  }
};

MetricsPage::MetricsPage(const std::string& listen) try : impl_(std::make_unique<Impl>(listen)) {
} catch (const std::exception& error) {
  throw Error(StrCat("cannot serve metrics: ", error.what()), listen,
              "[metrics] listen = \"<address>:<port>\" of this host, which nothing else uses");
}

MetricsPage::~MetricsPage() = default;

void MetricsPage::Update(const std::string& status) {
  const Json json = Json::parse(status);
  impl_->Set("step", json.at("step").get<double>());
  impl_->Set("steps", json.at("steps").get<double>());
  for (const auto& [name, value] : json.at("pace").items()) impl_->Set(name, value.get<double>());
  impl_->SetNamed("scalar", json.at("scalars"));
  impl_->Set("leased", json.at("in_flight").get<double>());
  impl_->Set("waiting", json.at("queued").get<double>());
  impl_->SetNamed("dispatcher", json.at("dispatcher"));
  impl_->SetNamed("cache", json.at("cache"));
  impl_->Set("malformed_messages", json.at("malformed").get<double>());
  for (const Json& node : json.at("nodes")) impl_->SetNode(node);
}

}  // namespace sgmd
