import FilterCompiler
import ProcessChannel
import Store
import Synchronization
import TunnelModel

/// Filters' programs, kept: libpcap's optimizer takes seconds for a long expression.
final class FilterPrograms: Sendable {
    private struct Key: Hashable {
        var expression: String
        var device: DeviceKind
    }

    private struct Kept {
        var programs: [Key: [BPFInstruction]] = [:]
        var compilations = 0
    }

    private let kept = Mutex(Kept())
    /// Beyond, all are compiled anew as they are needed.
    private static let maximumKept = 16384

    /// How many expressions were compiled so far.
    var compilations: Int { kept.withLock { $0.compilations } }

    /// The program for a filter's expression. Safe on any thread; nobody waits for another's compilation.
    func program(_ expression: String, _ device: DeviceKind) throws(DefinitionError) -> [BPFInstruction] {
        let key = Key(expression: expression, device: device)
        if let program = kept.withLock({ $0.programs[key] }) { return program }
        let program = try FilterCompiler.compile(expression: expression, device: device)
        kept.withLock { kept in
            kept.compilations += 1
            if kept.programs.count >= Self.maximumKept { kept.programs = [:] }
            kept.programs[key] = program
        }
        return program
    }

    /// A definition with its filters compiled, or everything that is wrong with them; small enough for the processes'
    /// messages.
    func compiled(_ definition: TunnelDefinition) throws(StoreError) -> CompiledTunnel {
        var programs: [[BPFInstruction]] = []
        var problems: [DefinitionError] = []
        for filter in definition.filters {
            do throws(DefinitionError) {
                programs.append(try program(filter.expression, definition.device))
            } catch {
                problems.append(error)
            }
        }
        if !problems.isEmpty { throw .refused(problems) }
        let tunnel = CompiledTunnel(definition: definition, filterPrograms: programs)
        if let problem = tunnel.sizeProblem { throw .refused([problem]) }
        return tunnel
    }

    /// Compiles what these will need, off the caller's thread.
    func prepare(_ definitions: [TunnelDefinition]) async {
        if definitions.allSatisfy(\.filters.isEmpty) { return }
        _ = try? await BlockingWork.run {
            for definition in definitions {
                for filter in definition.filters { _ = try? self.program(filter.expression, definition.device) }
            }
        }
    }
}
