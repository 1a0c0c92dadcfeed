// /debug/pprof/: the layout that people and tools know from Go, then what a native program needs besides: why
// a profile is empty, and commands to copy that have this very address in them.
#include <algorithm>
#include <string>

#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

struct Row {
  std::string_view name;
  std::string_view sentence;
  std::uint64_t count;
  std::string state;
  bool has_command;
};

std::vector<Row> sorted_rows(const Site& site, std::span<const PageView> pages) {
  std::vector<Row> rows;
  for (const auto& source : site.profiles) {
    const ProfileKind& kind = source->kind();
    const bool is_for_people = !kind.is_for_scraper;
    rows.push_back({kind.name, kind.sentence, source->count(),
                    is_for_people ? source->state() : std::string(), is_for_people});
  }
  for (const PageView& page : pages) rows.push_back({page.name, page.sentence, 0, {}, false});
  std::sort(rows.begin(), rows.end(),
            [](const Row& left, const Row& right) { return left.name < right.name; });
  return rows;
}

// A shell reads the result as one word, whatever the path of the socket is.
std::string shell_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result + "'";
}

// The name that the client has used for us, where nothing in it means anything to a shell.
std::string plain_host(const Request& request) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]";
  const bool is_plain = request.host.find_first_not_of(kPlain) == std::string::npos;
  return request.host.empty() || !is_plain ? "localhost" : request.host;
}

std::string command_for(std::string_view profile, const Request& request) {
  const std::string path = "/debug/pprof/" + std::string(profile);
  if (request.socket_path.empty()) {
    return "go tool pprof -http=:8888 http://" + plain_host(request) + path;
  }
  // No pprof client can dial a Unix socket, so curl fetches.
  const std::string file = std::string(profile) + ".pb.gz";
  return "curl -s --unix-socket " + shell_quoted(request.socket_path) + " -o " + file + " http://localhost" +
         path + " && go tool pprof -http=:8888 " + file;
}

// Buttons for the two profiles that are off until somebody wants them. Without JavaScript there are none, and
// the page can be read all the same. The names are those of the settings.
constexpr std::string_view kSwitch = R"(<p id=switch hidden>
Record:
<button data-name=block_profile_rate data-value=1>block on</button>
<button data-name=block_profile_rate data-value=0>block off</button>
<button data-name=mutex_profile_fraction data-value=1>mutex on</button>
<button data-name=mutex_profile_fraction data-value=0>mutex off</button>
<span id=answer></span>
</p>
<script>
document.getElementById('switch').hidden = false;
document.getElementById('switch').onclick = async (event) => {
  const {name, value} = event.target.dataset;
  if (!name) return;
  const response = await fetch('config', {
    method: 'PUT',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({[name]: Number(value)}),
  });
  if (response.ok) location.reload();
  else document.getElementById('answer').textContent = await response.text();
};
</script>
)";

}  // namespace

std::string index_page(const Site& site, const Request& request, std::span<const PageView> pages) {
  const std::vector<Row> rows = sorted_rows(site, pages);
  std::string html =
      "<html>\n<head>\n<title>/debug/pprof/</title>\n<style>\n"
      ".profile-name{\n\tdisplay:inline-block;\n\twidth:8rem;\n}\n"
      "</style>\n</head>\n<body>\n/debug/pprof/\n<br>\n"
      "<p>Set debug=1 as a query parameter to export in legacy text format</p>\n<br>\n"
      "Types of profiles available:\n<table>\n<thead><td>Count</td><td>Profile</td></thead>\n";
  for (const Row& row : rows) {
    const std::string name = escape_html(row.name);
    html += "<tr><td>" + std::to_string(row.count) + "</td><td><a href='";
    html += name;
    html += "?debug=1'>";
    html += name;
    html += "</a></td></tr>\n";
  }
  html += "</table>\n<br>\n<p>\nProfile Descriptions:\n<ul>\n";
  for (const Row& row : rows) {
    html += "<li><div class=profile-name>" + escape_html(row.name) + ": </div> ";
    html += escape_html(row.sentence) + "</li>\n";
  }
  html += "</ul>\n</p>\n";

  const bool has_states =
      std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.state.empty(); });
  if (has_states) html += "<p>\nState:\n<ul>\n";
  for (const Row& row : rows) {
    if (!row.state.empty())
      html += "<li>" + escape_html(row.name) + ": " + escape_html(row.state) + "</li>\n";
  }
  if (has_states) html += "</ul>\n</p>\n";
  html += kSwitch;

  const bool has_commands =
      std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.has_command; });
  if (has_commands) html += "<p>\nTo look at a profile of this process:\n</p>\n<pre>\n";
  for (const Row& row : rows) {
    if (row.has_command) html += escape_html(command_for(row.name, request)) + "\n";
  }
  if (has_commands) html += "</pre>\n";
  html += "</body>\n</html>";
  return html;
}

}  // namespace profagent::service
