// The index in a browser: Chromium without a window, led through chromedriver by the WebDriver protocol.
#include <regex>
#include <string>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/programs.h"

using namespace profagent::test;
using Json = nlohmann::json;

namespace {

bool can_browse() {
  return available("chromium") && available("chromedriver");
}

class Browser {
 public:
  Browser()
      : port_(free_port()),
        driver_({"chromedriver", "--port=" + std::to_string(port_)},
                {{"HOME", dir_.path()}, {"TMPDIR", dir_.path()}}) {
    REQUIRE(eventually([&] { return can_connect(Address::tcp(port_)); }));
    const Json options = {
        {"binary", "/usr/bin/chromium"},
        {"args",
         {"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
          "--window-size=1000,1400", "--user-data-dir=" + dir_.file("profile")}}};
    const Json session =
        post("/session", {{"capabilities", {{"alwaysMatch", {{"goog:chromeOptions", options}}}}}});
    session_ = "/session/" + session["sessionId"].get<std::string>();
  }
  ~Browser() { http(Address::tcp(port_), {.method = "DELETE", .target = session_}); }
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void open(const std::string& url) { post(session_ + "/url", {{"url", url}}); }
  // What a script in the page returns.
  Json run_script(const std::string& script) {
    return post(session_ + "/execute/sync", {{"script", script}, {"args", Json::array()}});
  }
  std::string text() { return run_script("return document.body.innerText;").get<std::string>(); }
  // As a person does: what is hidden cannot be pressed.
  void press(const std::string& selector) {
    const Json element = post(session_ + "/element", {{"using", "css selector"}, {"value", selector}});
    post(session_ + "/element/" + element.begin()->get<std::string>() + "/click", Json::object());
  }

 private:
  Json post(const std::string& target, const Json& body) {
    const Response answer = http(Address::tcp(port_), {.method = "POST",
                                                       .target = target,
                                                       .headers = {{"Content-Type", "application/json"}},
                                                       .body = body.dump()});
    CAPTURE(target, answer.body);
    REQUIRE(answer.status == 200);
    return Json::parse(answer.body)["value"];
  }

  TempDir dir_;
  std::uint16_t port_;
  Process driver_;
  std::string session_;
};

std::string value_of(Victim& victim, const std::string& name) {
  const Json page = Json::parse(victim.get("/debug/pprof/config").body);
  for (const Json& row : page["settings"])
    if (row["name"] == name) return row["source"].get<std::string>() + " " + row["current"].dump();
  return "none";
}

}  // namespace

TEST_CASE("a browser shows the index, and its buttons switch the profiles on and off", "[browser]") {
  if (!can_browse()) return;
  Victim victim("leak");
  Browser browser;
  browser.open(victim.url("/debug/pprof/"));
  const std::string text = browser.text();
  CHECK(text.find("Types of profiles available:") != std::string::npos);
  CHECK(text.find("go tool pprof -http=:8888 " + victim.url("/debug/pprof/heap")) != std::string::npos);
  CHECK(text.find("block: off: PROFAGENT_BLOCK_PROFILE_RATE is 0") != std::string::npos);
  CHECK(value_of(victim, "block_profile_rate") == "default 0");

  const auto shows_off = [&](const std::string& profile) {
    return browser.text().find(profile + ": off: ") != std::string::npos;
  };
  browser.press("[data-name=block_profile_rate][data-value='1']");
  CHECK(eventually([&] { return value_of(victim, "block_profile_rate") == "PUT 1"; }));
  // The page loads itself again and shows what is so now.
  CHECK(eventually([&] { return !shows_off("block") && shows_off("mutex"); }));
  browser.press("[data-name=mutex_profile_fraction][data-value='1']");
  CHECK(eventually([&] { return value_of(victim, "mutex_profile_fraction") == "PUT 1"; }));
  CHECK(eventually([&] { return !shows_off("mutex"); }));
  browser.press("[data-name=block_profile_rate][data-value='0']");
  CHECK(eventually([&] { return value_of(victim, "block_profile_rate") == "PUT 0"; }));
  CHECK(eventually([&] { return shows_off("block"); }));
}

TEST_CASE("a page of another site reads nothing and changes nothing through a browser", "[J2][J3][browser]") {
  if (!can_browse()) return;
  Victim victim("leak");
  Victim other("leak");  // any page that is not the victim's
  Browser browser;
  browser.open(other.url("/debug/pprof/"));
  for (const std::string request :
       {"'/debug/pprof/cmdline'", "'/debug/pprof/cmdline', {mode: 'cors', credentials: 'include'}",
        "'/debug/pprof/config', {method: 'PUT', headers: {'Content-Type': 'application/json'}, body: "
        "'{\"block_profile_rate\": 1}'}",
        "'/debug/pprof/config', {method: 'PUT', mode: 'no-cors', body: '{\"block_profile_rate\": 1}'}"}) {
    CAPTURE(request);
    const std::string script = "return fetch('" + victim.url() + "' + " + request +
                               ").then(answer => answer.text()).catch(error => 'refused: ' + error.name);";
    CHECK(browser.run_script(script).get<std::string>().find("refused: ") == 0);
  }
  CHECK(value_of(victim, "block_profile_rate") == "default 0");
}
