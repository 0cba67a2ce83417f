import FilterCompiler
import TunnelModel

/// The program for a filter's expression.
func compileFilter(_ expression: String, _ device: DeviceKind) throws(DefinitionError) -> [BPFInstruction] {
    try FilterCompiler.compile(expression: expression, device: device)
}
