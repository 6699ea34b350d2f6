//! Prints which kinds can be exposed by which mechanisms, as the gateway's own code has it.

fn main() {
    print!("{}", meshward_mesh_gateway::dialect::table());
}
