import Testing
import TunnelModel

@Suite("mlvpnd.conf")
struct DaemonConfigTests {
    @Test(arguments: [
        ("workres = 2", "did you mean workers?"), ("database = x", "no key of mlvpnd.conf"), ("workers", "no '='"),
        ("workers =", "no value"), ("workers = 0", "1 to 64"), ("workers = 65", "1 to 64"), ("workers = many", "auto"),
        ("priority = 5", "none of auto, realtime, high and normal"),
        ("[mlvpnd]", "no sections"),
        ("state_dir = var", "absolute"), ("state_dir = /", "root directory"), ("run_dir = /run/../tmp", "'..'"),
        ("user = root", "root"), ("control_user = root", "root"), ("user = mlvpn-control", "another"),
        ("user = Mlvpn", "lower-case"), ("admin_group = -x", "lower-case"), ("log_format = xml", "text nor json"),
        ("foreground = perhaps", "yes nor no"), ("verbose = 4", "0 to 3"), ("api_listen = 8080", "HOST:PORT"),
        ("api_listen = 127.0.0.1:8480", "api_token_file"), ("api_tls_key = /etc/k", "api_tls_certificate"),
        ("api_tls_certificate = /etc/k", "api_tls_key"), ("history_samples_days = 0", "1 to 36500"),
        ("history_samples_days = 100", "history_samples_days"), ("history_daily_days = 89", "history_hourly_days"),
        ("user = \"mlvpn", "not closed"), ("user = mlvpn\u{e9}", "ASCII"),
    ])
    func aBadLineIsRefusedAtItsLine(_ line: String, _ told: String) {
        let error = #expect(throws: ConfError.self) { try DaemonConfig.parse(Array("# first\n\(line)\n".utf8)) }
        #expect(error?.problems.count == 1)
        #expect(error?.problems.first?.text.contains(told) == true, "\(error?.description ?? "")")
        // What the file does not set has no line.
        let isAboutAnother = ["api_tls", "history_samples_days = 100", "user = mlvpn-control"].contains(
            where: line.hasPrefix)
        if !isAboutAnother { #expect(error?.problems.first?.line == 2) }
    }

    @Test func everyBadLineIsTold() {
        let text = "user = A\nuser = b\nuser = c\nx = 1\n"
        let error = #expect(throws: ConfError.self) { try DaemonConfig.parse(Array(text.utf8)) }
        #expect(error?.problems.map(\.line) == [1, 3, 4])
        #expect(error?.problems[1].text.contains("line 2") == true)
    }

    @Test func aSocketPathThatNoSocketCanHaveIsRefused() {
        let text = "run_dir = /" + String(repeating: "d", count: 100)
        let error = #expect(throws: ConfError.self) { try DaemonConfig.parse(Array(text.utf8)) }
        #expect(error?.problems.tells(1, "107 bytes") == true)
    }

    @Test(arguments: ["192.0.2.1:8480", "[::]:8480", "vpn.example.net:8480"])
    func theAPIIsNotServedInClearTextBeyondThisHost(_ address: String) throws {
        let text = "api_listen = \(address)\napi_token_file = /etc/mlvpn/api.token\n"
        let error = #expect(throws: ConfError.self) { try DaemonConfig.parse(Array(text.utf8)) }
        #expect(error?.problems.tells(1, "clear text", "api_tls_certificate") == true)
        let secured = text + "api_tls_certificate = /etc/mlvpn/api.crt\napi_tls_key = /etc/mlvpn/api.key\n"
        #expect(try DaemonConfig.parse(Array(secured.utf8)).apiListen?.description == address)
    }

    @Test func anEmptyFileIsAllDefaults() throws {
        let config = try DaemonConfig.parse([])
        #expect(config == DaemonConfig())
        #expect(config.databasePath == "/var/lib/mlvpn/mlvpn.db")
        #expect(config.controlSocketPath == "/run/mlvpn/control.sock")
        #expect(config.user == "mlvpn")
        #expect(config.controlUser == "mlvpn-control")
        #expect(config.adminGroup == "mlvpn-admin")
        #expect(config.scriptDir == "/etc/mlvpn")
    }

    @Test func everyKeyIsReadWithEitherSpelling() throws {
        let config = try DaemonConfig.parse(
            Array(
                """
                state-dir = /srv/mlvpn/   # comment
                run_dir = "/run/ml vpn"
                script_dir=/opt/scripts
                user = carrier
                control-user = keeper
                admin_group = staff
                foreground = yes
                workers = 3
                priority = realtime
                log-format = json
                verbose = 2
                api_listen = [::1]:8480
                api_token_file = /etc/t
                api_tls_certificate = /etc/c
                api_tls_key = /etc/k
                history_samples_days = 1
                history_hourly_days = 2
                history_daily_days = 3
                """.utf8))
        #expect(config.stateDir == "/srv/mlvpn")
        #expect(config.runDir == "/run/ml vpn")
        #expect(config.scriptDir == "/opt/scripts")
        #expect(config.user == "carrier")
        #expect(config.controlUser == "keeper")
        #expect(config.adminGroup == "staff")
        #expect(config.foreground)
        #expect(config.workers == 3)
        #expect(config.priority == .realtime)
        #expect(config.logFormat == .json)
        #expect(config.verbose == 2)
        #expect(config.apiListen?.description == "[::1]:8480")
        #expect(config.apiTokenFile == "/etc/t")
        #expect(config.apiTLSCertificate == "/etc/c")
        #expect(config.apiTLSKey == "/etc/k")
        #expect(config.historySamplesDays == 1)
        #expect(config.historyHourlyDays == 2)
        #expect(config.historyDailyDays == 3)
    }

    @Test(arguments: DaemonConfig.keys)
    func everyListedKeyCanBeSet(_ key: String) throws {
        var config = DaemonConfig()
        let values = ["/x", "mlvpnx", "yes", "2", "json", "high", "127.0.0.1:1"]
        #expect(
            values.contains { value in
                (try? config.set(key, to: value)) != nil && config != DaemonConfig()
            })
    }
}
